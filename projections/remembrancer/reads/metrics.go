package reads

import (
	"github.com/prometheus/client_golang/prometheus"

	"vaultmesh.cloud/vaultmesh/events/remembrancer"
	"vaultmesh.cloud/vaultmesh/projections/remembrancer/ledger"
)

// Published is what metrics need of the published checkpoints.
type Published interface {
	// Latest returns the newest; false before the first.
	Latest() (remembrancer.Head, bool)
	// Stamped returns the size of the newest that has a token, 0 if none.
	Stamped() uint64
}

// A Collector shows provenance and the state of the log to Prometheus. It counts
// nothing itself: every number is one of the ledger's, so it survives restarts.
type Collector struct {
	ledger *ledger.Ledger
	heads  Published
}

// NewCollector returns a collector to register.
func NewCollector(l *ledger.Ledger, heads Published) *Collector { return &Collector{l, heads} }

func desc(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, nil) }

var (
	deploymentsDesc = desc("vaultmesh_deployments", "Deployments recorded in the log.")
	evidencedDesc   = desc("vaultmesh_deployments_with_evidence", "Deployments recorded with the digest of their evidence.")
	coverageDesc    = desc("vaultmesh_provenance_coverage_ratio", "Share of deployments with evidence; 1 while there is none.")
	sizeDesc        = desc("vaultmesh_log_size", "Leaves of the log.")
	sealedDesc      = desc("vaultmesh_log_sealed_size", "Leaves that the newest published checkpoint holds.")
	stampedDesc     = desc("vaultmesh_log_stamped_size", "Leaves that the newest time-stamped checkpoint holds.")
	quarantinedDesc = desc("vaultmesh_quarantined_total", "Messages that are not events; each is a quarantine leaf.")
	repeatsDesc     = desc("vaultmesh_repeats_total", "Exact repeats of events, skipped.")
	stoppedDesc     = desc("vaultmesh_log_stopped", "1 if the ledger stopped writing after a failure.")
)

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{deploymentsDesc, evidencedDesc, coverageDesc, sizeDesc, sealedDesc, stampedDesc, quarantinedDesc, repeatsDesc, stoppedDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	put := func(d *prometheus.Desc, t prometheus.ValueType, v float64) {
		ch <- prometheus.MustNewConstMetric(d, t, v)
	}
	head := c.ledger.Head()
	sealed, _ := c.heads.Latest()
	coverage, stopped := 1.0, 0.0
	if head.Deploys > 0 {
		coverage = float64(head.Evidenced) / float64(head.Deploys)
	}
	if c.ledger.Stopped() != nil {
		stopped = 1
	}
	put(deploymentsDesc, prometheus.GaugeValue, float64(head.Deploys))
	put(evidencedDesc, prometheus.GaugeValue, float64(head.Evidenced))
	put(coverageDesc, prometheus.GaugeValue, coverage)
	put(sizeDesc, prometheus.GaugeValue, float64(head.Size))
	put(sealedDesc, prometheus.GaugeValue, float64(sealed.Size))
	put(stampedDesc, prometheus.GaugeValue, float64(c.heads.Stamped()))
	put(quarantinedDesc, prometheus.CounterValue, float64(head.Quarantined))
	put(repeatsDesc, prometheus.CounterValue, float64(head.Repeats))
	put(stoppedDesc, prometheus.GaugeValue, stopped)
}
