package events_test

import (
	"encoding/json"
	"fmt"
	"time"

	"vaultmesh.cloud/vaultmesh/events"
)

func ExampleAccept() {
	e := &events.Event{
		ID: "build-4711", Source: events.SourceOf("ci"), Type: "cloud.vaultmesh.deploy.recorded.v1", Subject: "api.eu",
		Time: time.Date(2026, 11, 23, 3, 19, 0, 0, time.UTC), Data: json.RawMessage(`{"version":"v1","component":"api.eu"}`),
	}
	b, err := e.Canonical()
	fmt.Println(string(b), err)
	subject := e.NATSSubject()
	fmt.Println(subject)
	_, _, err = events.Accept(subject, b)
	fmt.Println(err)
	_, _, err = events.Accept("vm.deploy.api=2Eeu.mallory", b)
	fmt.Println(err)
	// Output:
	// {"data":{"component":"api.eu","version":"v1"},"datacontenttype":"application/json","id":"build-4711","source":"/ci","specversion":"1.0","subject":"api.eu","time":"2026-11-23T03:19:00Z","type":"cloud.vaultmesh.deploy.recorded.v1"} <nil>
	// vm.deploy.api=2Eeu.ci
	// <nil>
	// wrong_subject: published on vm.deploy.api=2Eeu.mallory, but its type, subject and source say vm.deploy.api=2Eeu.ci
}
