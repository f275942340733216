package remembrancer_test

import (
	"errors"
	"fmt"
	"time"

	"vaultmesh.cloud/vaultmesh/events"
	"vaultmesh.cloud/vaultmesh/events/remembrancer"
)

func ExampleDeployRecorded() {
	registry, err := events.NewRegistry(remembrancer.Definitions())
	if err != nil {
		fmt.Println(err)
		return
	}
	e, err := registry.New(&remembrancer.DeployRecorded{Component: "api", Version: "v1.4.2"}, events.Origin{
		ID: "0193a5c2-7d1e-7b9a-9c1f-3f1f5b7f8c2d", Source: "/ci/github", Time: time.Date(2026, 11, 23, 3, 19, 0, 0, time.UTC),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(e.NATSSubject())
	fmt.Println(e.DataSchema)
	fmt.Println(string(e.Data))
	// Output:
	// vm.deploy.api.ci
	// https://vaultmesh.cloud/schemas/remembrancer/deploy.recorded.v1.json
	// {"component":"api","version":"v1.4.2"}
}

func ExampleDefinitions() {
	registry, err := events.NewRegistry(remembrancer.Definitions())
	if err != nil {
		fmt.Println(err)
		return
	}
	err = registry.Check(&events.Event{
		Type: remembrancer.DecisionRecordedType,
		Data: []byte(`{"number":1,"status":"decided","title":"Fold in intake order"}`),
	})
	fmt.Println(errors.Is(err, events.ErrInvalidData))
	fmt.Println(err)
	// Output:
	// true
	// event data does not fit its schema: cloud.vaultmesh.decision.recorded.v1: status is "decided", must be one of proposed, accepted, rejected, deprecated, superseded
}
