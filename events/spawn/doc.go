// Package spawn holds the facts of layer 1: services that were generated.
package spawn
