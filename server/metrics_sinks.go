package server

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rotunda-pki/rotunda/control"
)

// sinkCollector reads how far the audit log was forwarded when that is asked
// for.
type sinkCollector struct {
	control *control.Control
	log     *slog.Logger
}

var (
	sinkTakenDesc   = describe("audit_sink_taken", "Entries of the audit log that a sink has taken.", "sink")
	sinkLagDesc     = describe("audit_sink_lag", "Entries of the audit log that a sink has not taken.", "sink")
	sinkBehindDesc  = describe("audit_sink_lag_seconds", "The age of the first entry that a sink has not taken.", "sink")
	sinkFailingDesc = describe("audit_sink_failing", "Whether the newest try to forward to a sink came to nothing.", "sink")
)

// Describe implements prometheus.Collector.
func (s sinkCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{sinkTakenDesc, sinkLagDesc, sinkBehindDesc, sinkFailingDesc} {
		descs <- desc
	}
}

// Collect implements prometheus.Collector.
func (s sinkCollector) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	sinks, now, err := s.control.SinkFigures(ctx)
	if err != nil {
		s.log.Error("read the sinks for metrics", "error", err)
		return
	}
	for _, one := range sinks {
		gauge := func(desc *prometheus.Desc, value float64) {
			metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, one.Name)
		}
		gauge(sinkTakenDesc, float64(one.Taken))
		gauge(sinkLagDesc, float64(one.Lag))
		behind, failing := 0.0, 0.0
		if one.BehindSince != nil {
			behind = max(now.Sub(one.BehindSince.AsTime()).Seconds(), 0)
		}
		if one.FailingSince != nil {
			failing = 1
		}
		gauge(sinkBehindDesc, behind)
		gauge(sinkFailingDesc, failing)
	}
}
