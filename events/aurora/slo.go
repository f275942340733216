package aurora

import "vaultmesh.cloud/vaultmesh/events"

// Units of indicators.
const (
	UnitPPM         = "ppm" // parts per million, of a ratio
	UnitMillisecond = "ms"
	UnitMicrosecond = "us"
	UnitMicroUSD    = "micro_usd"
	UnitCount       = "count"
)

// Goals of indicators.
const (
	AtLeast = "at_least"
	AtMost  = "at_most"
)

// An Indicator is one measured service level against its objective.
type Indicator struct {
	Name    string `json:"name"` // such as fill_rate
	Unit    string `json:"unit"`
	Value   int64  `json:"value,omitzero"`
	Goal    string `json:"goal"`
	Target  int64  `json:"target,omitzero"`
	Samples int64  `json:"samples,omitzero"` // how many values it sums up; with none it says nothing
}

// Met reports whether the objective was reached. Without samples it was.
func (i Indicator) Met() bool {
	if i.Samples == 0 {
		return true
	}
	if i.Goal == AtMost {
		return i.Value <= i.Target
	}
	return i.Value >= i.Target
}

// SLOReported holds the service levels of one window.
type SLOReported struct {
	Scope       string      `json:"scope"`        // whose: a bounded name, such as "aurora" or a provider
	WindowStart string      `json:"window_start"` // the first moment
	WindowEnd   string      `json:"window_end"`   // the first moment after it
	Indicators  []Indicator `json:"indicators"`
}

// SLOReportedType is the type of [SLOReported].
const SLOReportedType events.Type = "cloud.vaultmesh.slo.reported.v1"

// EventType implements events.Payload.
func (*SLOReported) EventType() events.Type { return SLOReportedType }

// Entity is the scope.
func (p *SLOReported) Entity() string { return p.Scope }

// Check implements events.Payload.
func (p *SLOReported) Check() error {
	var c events.Checker
	code(&c, "scope", p.Scope, MaxTenant)
	c.Time("window_start", p.WindowStart)
	c.Time("window_end", p.WindowEnd)
	c.Integer("number of indicators", int64(len(p.Indicators)), 1, 64)
	for _, i := range p.Indicators {
		code(&c, "indicators.name", i.Name, maxCode)
		c.OneOf("indicators.unit", i.Unit, UnitPPM, UnitMillisecond, UnitMicrosecond, UnitMicroUSD, UnitCount)
		c.Integer("indicators.value", i.Value, 0, events.MaxExact)
		c.OneOf("indicators.goal", i.Goal, AtLeast, AtMost)
		c.Integer("indicators.target", i.Target, 0, events.MaxExact)
		c.Integer("indicators.samples", i.Samples, 0, events.MaxExact)
	}
	return c.Err()
}
