// Package arch holds the import rules of the house as pure functions over a
// list of packages, so that each rule can be shown to fire.
//
// A package stands at (row, layer). Imports run down and left, never up or
// right: to a lower row or the own folder, and to the own layer, a lower one or
// the shared packages. Scan reads a tree into the list, Check judges it.
package arch
