package server

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/control"
)

// metricsServer serves Prometheus metrics and health. Keep it off the network:
// it needs no credential.
func (s *Server) metricsServer() *http.Server {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		fleetCollector{s.control},
	)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	s.handleHealth(mux)
	return plainServer(mux, s.log)
}

// fleetCollector reads the figures of the fleet when they are asked for.
type fleetCollector struct{ control *control.Control }

var (
	issuedDesc  = describe("certificates_issued_total", "Certificates issued for placements since the process began.")
	refusedDesc = describe("certificates_refused_total", "Requests for certificates that were refused since the process began.")
	rotatedDesc = describe("rotations_total", "Rotations that agents reported as committed since the process began.")
	failedDesc  = describe("rotations_failed_total", "Rotations that agents reported as failed since the process began.")
	streamsDesc = describe("agent_streams", "Agents connected to this server.")
	stateDesc   = describe("placements", "Placements by what they last reported.", "state")
	expiryDesc  = describe("next_expiry_timestamp_seconds", "When the first certificate in use expires.")
	offsetDesc  = describe("agent_clock_offset_seconds", "A connected agent's clock less the server's.", "agent")
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("rotunda_"+name, help, labels, nil)
}

// Describe implements prometheus.Collector.
func (f fleetCollector) Describe(descs chan<- *prometheus.Desc) {
	prometheus.DescribeByCollect(f, descs)
}

// Collect implements prometheus.Collector.
func (f fleetCollector) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	figures, err := f.control.Figures(ctx)
	if err != nil {
		metrics <- prometheus.NewInvalidMetric(stateDesc, err)
		return
	}
	counter := func(desc *prometheus.Desc, value uint64) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(value))
	}
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	counter(issuedDesc, figures.Issued)
	counter(refusedDesc, figures.Refused)
	counter(rotatedDesc, figures.Rotated)
	counter(failedDesc, figures.Failed)
	gauge(streamsDesc, float64(figures.Streams))
	for state, n := range figures.ByState {
		gauge(stateDesc, float64(n), stateLabel(state))
	}
	if !figures.NextExpiry.IsZero() {
		gauge(expiryDesc, float64(figures.NextExpiry.UnixMilli())/1000)
	}
	for agent, offset := range figures.ClockOffsets {
		gauge(offsetDesc, offset.Seconds(), agent)
	}
}

func stateLabel(state api.State) string {
	switch state {
	case api.State_STATE_WAITING:
		return "waiting"
	case api.State_STATE_ROTATING:
		return "rotating"
	case api.State_STATE_STEADY:
		return "steady"
	case api.State_STATE_FAILED:
		return "failed"
	case api.State_STATE_ORPHAN:
		return "orphan"
	}
	return "unreported"
}
