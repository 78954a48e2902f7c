package server

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rotunda-pki/rotunda/control"
)

// witnessCollector reads how far the audit log was cosigned when that is asked
// for.
type witnessCollector struct {
	control *control.Control
	log     *slog.Logger
}

var (
	witnessSizeDesc    = describe("audit_witness_size", "Entries of the audit log that a witness has cosigned.", "witness")
	witnessBehindDesc  = describe("audit_witness_lag_seconds", "The age of the first checkpoint beyond what a witness has cosigned.", "witness")
	witnessFailingDesc = describe("audit_witness_failing", "Whether the newest try to have a witness cosign came to nothing.", "witness")
	witnessAlarmDesc   = describe("audit_witness_alarm", "1 for a witness that contradicts the audit log, or itself; it stays.", "witness")
	publishedDesc      = describe("audit_published_size", "Entries of the audit log at the checkpoint that is published.")
	unpublishedDesc    = describe("audit_unpublished_seconds", "The age of the first checkpoint beyond the one that is published: it waits for cosignatures.")
)

// Describe implements prometheus.Collector.
func (c witnessCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{witnessSizeDesc, witnessBehindDesc, witnessFailingDesc, witnessAlarmDesc, publishedDesc, unpublishedDesc} {
		descs <- desc
	}
}

// Collect implements prometheus.Collector.
func (c witnessCollector) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	list, now, err := c.control.WitnessFigures(ctx)
	if err != nil {
		c.log.Error("read the witnesses for metrics", "error", err)
		return
	}
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	age := func(since *timestamppb.Timestamp) float64 {
		if since == nil {
			return 0
		}
		return max(now.Sub(since.AsTime()).Seconds(), 0)
	}
	flag := func(since *timestamppb.Timestamp) float64 {
		if since == nil {
			return 0
		}
		return 1
	}
	gauge(publishedDesc, float64(list.Published))
	gauge(unpublishedDesc, age(list.UnpublishedSince))
	for _, one := range list.Witnesses {
		gauge(witnessSizeDesc, float64(one.Size), one.Name)
		gauge(witnessBehindDesc, age(one.BehindSince), one.Name)
		gauge(witnessFailingDesc, flag(one.FailingSince), one.Name)
		gauge(witnessAlarmDesc, flag(one.AlarmAt), one.Name)
	}
}
