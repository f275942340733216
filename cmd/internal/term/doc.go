// Package term is how a command speaks: data to stdout as a table, JSON or YAML,
// everything else to stderr, and one exit code for each kind of error. It knows
// no layer; the command trees of all binaries use it, so that they feel alike.
//
// What a table shows may come from strangers: see [Safe].
package term
