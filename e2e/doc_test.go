// Package e2e tests VaultMesh as its users meet it: the real binaries, driven
// by scripts and by the documents' own commands, and the rules of the house
// that no compiler checks.
package e2e
