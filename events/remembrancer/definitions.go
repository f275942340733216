package remembrancer

import "vaultmesh.cloud/vaultmesh/events"

// Definitions returns the event types of this layer.
func Definitions() []events.Definition {
	return []events.Definition{
		{Type: DeployRecordedType, Schema: "remembrancer/deploy.recorded.v1.json", New: func() events.Payload { return new(DeployRecorded) }},
		{Type: ArtifactSignedType, Schema: "remembrancer/artifact.signed.v1.json", New: func() events.Payload { return new(ArtifactSigned) }},
		{Type: ArtifactTimestampedType, Schema: "remembrancer/artifact.timestamped.v1.json", New: func() events.Payload { return new(ArtifactTimestamped) }},
		{Type: DecisionRecordedType, Schema: "remembrancer/decision.recorded.v1.json", New: func() events.Payload { return new(DecisionRecorded) }},
		{Type: IncidentReportedType, Schema: "remembrancer/incident.reported.v1.json", New: func() events.Payload { return new(IncidentReported) }},
		{Type: LedgerStampedType, Schema: "remembrancer/ledger.stamped.v1.json", New: func() events.Payload { return new(LedgerStamped) }},
		{Type: LedgerKeyBoundType, Schema: "remembrancer/ledger.key-bound.v1.json", New: func() events.Payload { return new(LedgerKeyBound) }},
		{Type: LedgerKeyRevokedType, Schema: "remembrancer/ledger.key-revoked.v1.json", New: func() events.Payload { return new(LedgerKeyRevoked) }},
		{Type: LedgerRegressedType, Schema: "remembrancer/ledger.regressed.v1.json", New: func() events.Payload { return new(LedgerRegressed) }},
		{Type: LedgerEpochOpenedType, Schema: "remembrancer/ledger.epoch-opened.v1.json", New: func() events.Payload { return new(LedgerEpochOpened) }},
		{Type: PeerJoinedType, Schema: "remembrancer/federation.peer-joined.v1.json", New: func() events.Payload { return new(PeerJoined) }},
		{Type: PeerLeftType, Schema: "remembrancer/federation.peer-left.v1.json", New: func() events.Payload { return new(PeerLeft) }},
		{Type: RoundSealedType, Schema: "remembrancer/federation.round-sealed.v1.json", New: func() events.Payload { return new(RoundSealed) }},
		{Type: EquivocationFoundType, Schema: "remembrancer/federation.equivocation-found.v1.json", New: func() events.Payload { return new(EquivocationFound) }},
	}
}
