// Package remembrancer is the command line of the second layer: one file a verb,
// each a thin hand on the node's HTTP interface and on the pure verification in
// projections/remembrancer/proof. What a verb claims it has checked itself: a
// node's answers are input from outside.
package remembrancer
