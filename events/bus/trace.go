package bus

import (
	"context"

	"vaultmesh.cloud/vaultmesh/events"
)

type traceKey struct{}

type trace struct{ parent, state string }

// WithTrace gives events that are published under the context a W3C trace context,
// unless they have their own.
func WithTrace(ctx context.Context, traceparent, tracestate string) context.Context {
	return context.WithValue(ctx, traceKey{}, trace{traceparent, tracestate})
}

// traced returns the event with the context's trace, a copy if it changes.
func traced(ctx context.Context, e *events.Event) *events.Event {
	t, ok := ctx.Value(traceKey{}).(trace)
	if !ok || t.parent == "" || e.TraceParent != "" {
		return e
	}
	c := *e
	c.TraceParent, c.TraceState = t.parent, t.state
	return &c
}
