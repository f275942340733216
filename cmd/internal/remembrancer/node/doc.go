// Package node is the Remembrancer's part of a running node: it makes the keys,
// opens the stores, runs fold, seal and timestamp, and mounts the doors.
package node
