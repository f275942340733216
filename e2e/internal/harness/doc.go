// Package harness runs testscript files, and the commands that the documents
// show, against the real binaries.
//
// A script gets a home, a GnuPG home and a PATH of its own, and besides
// testscript's commands:
//
//	startnode [-as NAME] [FLAG...]     vaultmesh up in the background, with free ports; sets
//	                                   NODE_HTTP, NODE_NATS, NODE_DATA, NODE_PID, VAULTMESH_DATA
//	                                   (-as b: B_HTTP, ... and not VAULTMESH_DATA)
//	stopnode [NAME]                    SIGTERM; the node must exit with 0
//	killnode [NAME]                    SIGKILL
//	[!] jsonfield FILE PATH [VALUE]    FILE (or stdout) has PATH, such as links.0.ok; with that value
//	jsonenv VAR FILE PATH              the value of PATH into a variable
//	[!] httpget URL [HEADER...]        the answer's body to http.body and stdout, head to http.head;
//	                                   fails unless it is 2xx (with !: unless it is not)
//	[!] httpsend METHOD URL FILE [HEADER...]
//	eventually DURATION COMMAND...     runs a program until it exits with 0
//
// A node that still runs at the end of a script is stopped like stopnode does,
// and fails the test if it does not exit with 0.
package harness
