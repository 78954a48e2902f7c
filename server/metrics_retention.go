package server

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rotunda-pki/rotunda/control"
)

// retentionCollector reads how the archives stand when it is asked for.
type retentionCollector struct {
	control *control.Control
	log     *slog.Logger
}

var (
	archivesDesc = describe("archives", "Archives of certificates that the audit log has a manifest of.")
	archivedDesc = describe("archived_certificates", "Certificates whose records are in archives.")
	damagedDesc  = describe("archives_damaged", "Archives that are missing, or not as large as they were written.")
	passDesc     = describe("retention_last_pass_timestamp_seconds", "When this process carried out retention last.")
	passedDesc   = describe("retention_last_pass_failed", "1 if that pass failed.")
)

// Describe implements prometheus.Collector.
func (r retentionCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{archivesDesc, archivedDesc, damagedDesc, passDesc, passedDesc} {
		descs <- desc
	}
}

// Collect implements prometheus.Collector.
func (r retentionCollector) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	gauge := func(desc *prometheus.Desc, value float64) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value)
	}
	if last, err := r.control.LastPass(); !last.At.IsZero() {
		gauge(passDesc, float64(last.At.UnixMilli())/1000)
		gauge(passedDesc, oneWhile(err != nil))
	}
	totals, damaged, err := r.control.ArchiveFigures(ctx)
	if err != nil {
		r.log.Error("count the archives for metrics", "error", err)
		return
	}
	gauge(archivesDesc, float64(totals.Archives))
	gauge(archivedDesc, float64(totals.Certificates))
	gauge(damagedDesc, float64(damaged))
}
