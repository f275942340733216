// Package document finds the commands that Markdown documents show, so that a
// test can run them.
//
// Every block of shell commands (console, sh, bash, ...) stands under one of
// these comments, on a line of its own:
//
//	<!-- test: NAME -->
//	<!-- test: NAME, needs: node -->      starts a node before the first such block
//	<!-- test: NAME, output: any -->      the shown output is an example
//	<!-- test: NAME, file: treaty.yaml --> the block, of any language, becomes that file
//	<!-- no-test: REASON -->
//
// Blocks of one NAME in one document run in order, in one folder, as one shell
// session. In a console block a line "$ command" is run, "> text" or a final
// backslash continues it, and other lines are what it prints (stdout and
// stderr): "…" or "..." stands for any text, alone on a line for any lines. No
// lines below a command mean that its output is not looked at. A command must
// exit with 0, or with what a trailing comment "# exit 4" says. "vaultmesh up"
// starts a node in the background, with free ports (a second one in the
// same group is node2: NODE2_HTTP, ...). The default addresses of a
// node are replaced by its actual ones. A block of sh is run as a whole and
// stops at the first failure.
package document
