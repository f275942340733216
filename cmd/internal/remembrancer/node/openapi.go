package node

import (
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"vaultmesh.cloud/vaultmesh/producers/remembrancer/record"
)

// operations documents the layer's routes in /openapi.json, by pattern.
var operations = map[string]huma.Operation{
	"GET /checkpoint":                 doc("Newest signed checkpoint", "A C2SP tlog-checkpoint note.", "text/plain"),
	"GET /tile/{path...}":             doc("Hash tile", "C2SP tlog-tiles: <L>/<N>[.p/<W>].", "application/octet-stream"),
	"GET /tile/entries/{path...}":     doc("Entry bundle", "C2SP tlog-tiles: <N>[.p/<W>].", "application/octet-stream"),
	"GET /v1/keys/{name}":             doc("Public key", "operator.asc, node.asc, log.vkey or tsa.pem.", "text/plain"),
	"GET /v1/checkpoint":              doc("Published checkpoint with its signature and seals", "The newest, or that of exactly this size.", "application/json", "size"),
	"GET /v1/events":                  doc("Events by type or digest", "In order of their leaf index.", "application/json", "type", "digest", "from", "limit", "min_index"),
	"GET /v1/events/stream":           doc("Accepted events as they come", "Server-sent events; Last-Event-ID resumes after a leaf index.", "text/event-stream", "from", "type", "domain", "source", "valid"),
	"GET /v1/events/{id}":             doc("One event", "With its leaf index and leaf hash.", "application/json", "source", "min_index"),
	"GET /v1/entries/{index}":         doc("One entry", "An event or a quarantine entry.", "application/json", "min_index"),
	"GET /v1/receipts/{id}":           doc("Receipt of an event", "Inclusion proof, checkpoint, signature, token, and consistency with the newest checkpoint.", "application/json", "source", "wait", "stamped"),
	"GET /v1/list/{kind}":             doc("What was recorded", "deployments, decisions, artifacts, incidents or all.", "application/json", "since", "until", "component", "from", "limit", "min_index"),
	"GET /v1/artifacts/{sha256}":      doc("Every event about a file", "By its SHA-256.", "application/json", "min_index"),
	"POST /v1/events":                 write("Publish events", "One CloudEvent, or a batch of up to 1,000, all or nothing.", record.MaxBatchBody, "application/cloudevents+json", "application/cloudevents-batch+json"),
	"POST /v1/record/{kind}":          write("Record one fact", "deploy, decision, incident, signature or timestamp.", record.MaxBody, "application/json"),
	"GET /v1/private/{commitment}":    doc("Private text", "That an event commits to.", "application/json"),
	"DELETE /v1/private/{commitment}": doc("Redact private text", "The event and its proofs stay.", "application/json"),
	"POST /v1/timestamp":              write("Time-stamp", "Relays an RFC 3161 request to the node's authority.", maxQuery, "application/timestamp-query"),
	"GET /v1/tsa/chain.pem":           doc("Roots for tokens", "What the operator trusts.", "application/x-pem-file"),
	"POST /v1/audit":                  write("Audit the log", "Lines of JSON; the last holds the result.", 1, "application/json"),
}

func doc(summary, description, media string, query ...string) huma.Operation {
	op := huma.Operation{Summary: summary, Description: description, Responses: map[string]*huma.Response{
		strconv.Itoa(http.StatusOK): {Description: summary, Content: map[string]*huma.MediaType{media: {}}},
	}}
	for _, name := range query {
		op.Parameters = append(op.Parameters, &huma.Param{Name: name, In: "query", Schema: &huma.Schema{Type: huma.TypeString}})
	}
	return op
}

func write(summary, description string, most int64, media ...string) huma.Operation {
	content := map[string]*huma.MediaType{}
	for _, m := range media {
		content[m] = &huma.MediaType{}
	}
	return huma.Operation{
		Summary: summary, Description: description, MaxBodyBytes: most, RequestBody: &huma.RequestBody{Content: content},
		Responses: map[string]*huma.Response{strconv.Itoa(http.StatusOK): {Description: summary}},
	}
}
