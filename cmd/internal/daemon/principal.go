package daemon

import (
	"context"
	"fmt"
	"slices"

	"vaultmesh.cloud/vaultmesh/events"
)

// A Role is what a principal may do at all. The list is closed.
type Role string

// The roles. They are not a ladder: a submitter speaks for one tenant and may not
// read what others wrote.
const (
	Public    Role = "public"    // nobody in particular
	Reader    Role = "reader"    // reads the whole log
	Submitter Role = "submitter" // submits and watches jobs of its own tenant
	Producer  Role = "producer"  // reads, and writes events in its own name
	Admin     Role = "admin"     // everything
)

// grants says which needs a role meets. It is the whole of authorisation by role.
var grants = map[Role][]Role{
	Public:    {Public},
	Reader:    {Public, Reader},
	Submitter: {Public, Submitter},
	Producer:  {Public, Reader, Producer},
	Admin:     {Public, Reader, Submitter, Producer, Admin},
}

// ParseRole returns the role of that name.
func ParseRole(name string) (Role, error) {
	if _, ok := grants[Role(name)]; !ok {
		return "", fmt.Errorf("%q is not a role", name)
	}
	return Role(name), nil
}

// Meets reports whether the role may do what needs the other.
func (r Role) Meets(need Role) bool { return slices.Contains(grants[r], need) }

// A Principal is who makes a request.
type Principal struct {
	Name     string // for logs; "" is nobody
	Role     Role
	Producer events.Producer // in whose name it writes; "" writes nothing
	Tenant   string          // whose jobs it sees; "" is all, for the role admin
}

// Anonymous reports whether the request named nobody.
func (p Principal) Anonymous() bool { return p.Name == "" }

// operator is who can open the socket in the data directory.
var operator = Principal{Name: "operator", Role: Admin, Producer: events.OperatorProducer}

// reserved producers are parts of the node or its operator: no token speaks for
// them but the operator's own.
var reserved = []events.Producer{
	events.NodeProducer, events.OperatorProducer, "router", "dispatch", "observe", "attest", "slo", "seal", "timestamp",
}

// check refuses principals whose names mean nothing or too much.
func (p Principal) check() error {
	if _, err := ParseRole(string(p.Role)); err != nil || p.Role == Public {
		return fmt.Errorf("role %q is not admin, producer, reader or submitter", p.Role)
	}
	if p.Role == Producer && p.Producer == "" {
		return fmt.Errorf("the role producer needs a producer's name")
	}
	if p.Producer != "" && !validName(string(p.Producer)) {
		return fmt.Errorf("producer %q is not 1 to 64 letters, digits, - or _", p.Producer)
	}
	if own := p.Role == Admin && p.Producer == events.OperatorProducer; !own && slices.Contains(reserved, p.Producer) {
		return fmt.Errorf("producer %q is reserved for the node and its operator", p.Producer)
	}
	if p.Role == Submitter && p.Tenant == "" {
		return fmt.Errorf("the role submitter needs a tenant")
	}
	return nil
}

// validName reports whether the name needs no escaping, in a subject or a file name.
func validName(s string) bool { return len(s) <= 64 && s != "" && events.Token(s) == s }

// A call is what the node knows about one request.
type call struct {
	id        string
	node      *core
	principal Principal
	local     bool // came over the socket or from this process
	pattern   string
	streaming bool
	release   func() // gives the slot of a request back; may be called twice
}

type callKey struct{}

func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// PrincipalOf returns who makes the request of this context, nobody by default.
func PrincipalOf(ctx context.Context) Principal {
	if c := callOf(ctx); c != nil {
		return c.principal
	}
	return Principal{Role: Public}
}

// WithPrincipal returns a context of a request by p, for tests of handlers.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, callKey{}, &call{principal: p})
}

// RequestID returns the id of the request of this context, or "".
func RequestID(ctx context.Context) string {
	if c := callOf(ctx); c != nil {
		return c.id
	}
	return ""
}
