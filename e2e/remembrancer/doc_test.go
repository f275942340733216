// Package remembrancer tests the second layer with the real binaries, from the
// outside.
package remembrancer
