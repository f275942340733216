package consumertest_test

import (
	"context"
	"testing"

	"vaultmesh.cloud/vaultmesh/consumers"
	"vaultmesh.cloud/vaultmesh/consumers/consumertest"
	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/bus/bustest"
)

// echo answers each event with a derived one.
func echo(out *consumertest.Recorder) consumers.Consumer {
	return consumers.Consumer{Name: "echo", Domains: []events.Domain{"deploy"}, Handle: func(ctx context.Context, item consumers.Item) error {
		_, err := out.Publish(ctx, answer(&item.Event))
		return err
	}}
}

func answer(cause *events.Event) *events.Event {
	return &events.Event{
		ID: events.DerivedID("/echo", cause.ID, "echo", 1), Source: "/echo", Type: "cloud.vaultmesh.incident.echoed.v1",
		Subject: cause.Subject, Time: cause.Time, Cause: cause.ID,
	}
}

func TestCase(t *testing.T) {
	first, second := bustest.Event(t, "ci", "api", 1), bustest.Event(t, "ci", "web", 2)
	consumertest.New(t, echo).Given(first).When(second).Then(answer(second)).Again(first, second)
}
