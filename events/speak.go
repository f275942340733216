package events

// Producers of a node that fold-v1 knows by name.
const (
	NodeProducer     Producer = "node"     // the node itself: housekeeping of the ledger
	OperatorProducer Producer = "operator" // the person at the node's own socket
)

// speakers is the frozen table "type → producers allowed" of fold-v1, by type
// name or by domain. What it does not list, any producer may say that the broker
// lets publish in the domain.
var speakers = map[string][]Producer{
	"ledger":            {NodeProducer},
	"federation":        {NodeProducer, OperatorProducer},
	"treaty":            {OperatorProducer},
	"slo":               {NodeProducer, OperatorProducer, "observe", "slo"},
	"route.decided":     {"router"},
	"route.refused":     {"router"},
	"route.intended":    {"dispatch"},
	"route.started":     {"dispatch"},
	"route.adopted":     {"dispatch"},
	"route.reaped":      {"dispatch"},
	"route.unknown":     {"dispatch", "observe"},
	"route.progressed":  {"dispatch", "observe"},
	"route.finished":    {"dispatch", "observe"},
	"route.failed":      {"dispatch", "observe"},
	"route.attested":    {"attest"},
	"artifact.attested": {"attest", OperatorProducer},
}

// MaySay reports whether fold-v1 lets the producer say the type. It is not the
// whole of authorisation: the broker has already checked that the producer may
// publish in the domain under its name.
func MaySay(p Producer, t Type) bool {
	allowed, ok := speakers[t.Name()]
	if !ok {
		allowed, ok = speakers[string(t.Domain())]
	}
	if !ok {
		return true
	}
	for _, a := range allowed {
		if a == p {
			return true
		}
	}
	return false
}
