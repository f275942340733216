// Package reads answers questions about the log: Go functions first, and HTTP
// handlers that call them. It serves the log as C2SP tlog-tiles, events and
// entries, lists by kind, receipts, and the feed of accepted events over SSE.
//
// What a caller may not see is decided where the routes are mounted; each
// [Route] says which role it needs.
package reads
