package remembrancer

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"vaultmesh.cloud/vaultmesh/events"
)

// listHTTP has pages of two, and an empty one at each odd start.
func (n *fakeNode) listHTTP(w http.ResponseWriter, r *http.Request) {
	domains := map[string]events.Domain{"deployments": "deploy", "decisions": "decision", "artifacts": "artifact", "incidents": "incident", "all": ""}
	domain, ok := domains[r.PathValue("kind")]
	if !ok {
		n.problem(w, 404, "no such list")
		return
	}
	items := []map[string]any{}
	from, _ := strconv.Atoi(r.FormValue("from"))
	for i := from; i < min(from+2, len(n.entries)); i++ {
		e, _, err := events.Parse(n.entries[i])
		must(n.t, err)
		since, _ := time.Parse(time.RFC3339Nano, r.FormValue("since"))
		until, err := time.Parse(time.RFC3339Nano, r.FormValue("until"))
		if domain != "" && e.Type.Domain() != domain || e.Time.Before(since) || err == nil && !e.Time.Before(until) {
			continue
		}
		items = append(items, map[string]any{
			"index": i, "id": e.ID, "type": e.Type, "kind": string(e.Type.Domain()), "time": e.Time, "source": e.Source,
			"subject": e.Subject, "title": "title of " + e.Subject, "detail": e.Data, "sealed": uint64(i) < n.newest(),
		})
	}
	page := map[string]any{"items": items}
	if from+2 < len(n.entries) {
		page["next"] = from + 2
	}
	n.json(w, 200, r.URL.Path, page)
}

func (n *fakeNode) eventHTTP(w http.ResponseWriter, r *http.Request) {
	_, index := n.find(r.PathValue("id"))
	if index < 0 {
		n.problem(w, 404, "no event of that id")
		return
	}
	n.json(w, 200, r.URL.Path, map[string]any{"index": index, "event": json.RawMessage(n.entries[index])})
}
