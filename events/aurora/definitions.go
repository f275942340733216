package aurora

import "vaultmesh.cloud/vaultmesh/events"

// Definitions returns the event types of this layer.
func Definitions() []events.Definition {
	return []events.Definition{
		{Type: TreatyAppliedType, Schema: "aurora/treaty.applied.v1.json", New: func() events.Payload { return new(TreatyApplied) }},
		{Type: TreatySuspendedType, Schema: "aurora/treaty.suspended.v1.json", New: func() events.Payload { return new(TreatySuspended) }},
		{Type: TreatyResumedType, Schema: "aurora/treaty.resumed.v1.json", New: func() events.Payload { return new(TreatyResumed) }},
		{Type: TreatyRevokedType, Schema: "aurora/treaty.revoked.v1.json", New: func() events.Payload { return new(TreatyRevoked) }},
		{Type: RouteRequestedType, Schema: "aurora/route.requested.v1.json", New: func() events.Payload { return new(RouteRequested) }},
		{Type: RouteDecidedType, Schema: "aurora/route.decided.v1.json", New: func() events.Payload { return new(RouteDecided) }},
		{Type: RouteRefusedType, Schema: "aurora/route.refused.v1.json", New: func() events.Payload { return new(RouteRefused) }},
		{Type: RouteIntendedType, Schema: "aurora/route.intended.v1.json", New: func() events.Payload { return new(RouteIntended) }},
		{Type: RouteAdoptedType, Schema: "aurora/route.adopted.v1.json", New: func() events.Payload { return new(RouteAdopted) }},
		{Type: RouteStartedType, Schema: "aurora/route.started.v1.json", New: func() events.Payload { return new(RouteStarted) }},
		{Type: RouteProgressedType, Schema: "aurora/route.progressed.v1.json", New: func() events.Payload { return new(RouteProgressed) }},
		{Type: RouteFinishedType, Schema: "aurora/route.finished.v1.json", New: func() events.Payload { return new(RouteFinished) }},
		{Type: RouteFailedType, Schema: "aurora/route.failed.v1.json", New: func() events.Payload { return new(RouteFailed) }},
		{Type: RouteUnknownType, Schema: "aurora/route.unknown.v1.json", New: func() events.Payload { return new(RouteUnknown) }},
		{Type: RouteReapedType, Schema: "aurora/route.reaped.v1.json", New: func() events.Payload { return new(RouteReaped) }},
		{Type: SLOReportedType, Schema: "aurora/slo.reported.v1.json", New: func() events.Payload { return new(SLOReported) }},
	}
}
