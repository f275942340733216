// Package daemon is a node's life: it takes the data directory, starts the broker,
// the layers and the HTTP server in an order that survives faults, and stops them in
// reverse. It owns who may do what, so that no route of a layer can forget to ask,
// and it is how commands reach a node: over a URL, its socket, or in-process.
//
// It knows no layer. What a layer adds comes in as a [Layer].
package daemon
