package server

import (
	"context"
	"log/slog"
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
		loadCollector{s}, spoolCollector{s.control},
	)
	for _, asks := range []prometheus.Collector{
		fleetCollector{s.control, s.log}, sinkCollector{s.control, s.log}, retentionCollector{s.control, s.log}, witnessCollector{s.control, s.log}, regionCollector{s.control, s.log},
	} {
		registry.MustRegister(storeCollector{asks, s.control})
	}
	mux := http.NewServeMux()
	// What the store can't tell now does not hide what the process knows.
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	s.handleHealth(mux)
	return plainServer(mux, s.log)
}

// fleetCollector reads the figures of the fleet when they are asked for.
type fleetCollector struct {
	control *control.Control
	log     *slog.Logger
}

var (
	issuedDesc  = describe("certificates_issued_total", "Certificates issued for placements since the process began.")
	refusedDesc = describe("certificates_refused_total", "Requests for certificates that were refused since the process began.")
	rotatedDesc = describe("rotations_total", "Rotations that agents reported as committed since the process began.")
	failedDesc  = describe("rotations_failed_total", "Rotations that agents reported as failed since the process began.")
	tookDesc    = describe("rotation_seconds", "From request to proof, of rotations that were proven since the process began.")
	streamsDesc = describe("agent_streams", "Agents connected to this server.")
	stateDesc   = describe("placements", "Placements by what they last reported.", "state")
	levelDesc   = describe("placements_shown", "Placements by the highest level shown of what is in use.", "level")
	expiryDesc  = describe("next_expiry_timestamp_seconds", "When the first certificate in use expires.")
	listsDesc   = describe("crl_next_update_timestamp_seconds", "When the first list of an authority ends.", "authority")
	revokeDesc  = describe("revocations_open", "Revocations that wait for what takes the place of a certificate in use.")
	fallenDesc  = describe("compromises_open", "Compromises that are not contained, or not recovered from.")
	provenDesc  = describe("synthetic_proven_timestamp_seconds", "When the certificate was issued that a region's synthetic intent is proven to serve; 0: none is.", "region", "intent")
	behindDesc  = describe("synthetic_behind", "1 when a region's synthetic intent has shown no rotation for three of its turns.", "region", "intent")
	backDesc    = describe("store_rolled_back", "1 while the store is behind what agents have seen of the audit log, and nothing changes.")
	madeDesc    = describe("store_commits_total", "Commits that were made durable since the process began.")
	callsDesc   = describe("store_commit_calls_total", "Calls whose writes those commits held.")
	durableDesc = describe("store_commit_seconds_total", "How long it took to make them durable: of a slow disk, much.")
	offsetDesc  = describe("agent_clock_offset_seconds", "A connected agent's clock less the server's.", "agent")
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("rotunda_"+name, help, labels, nil)
}

// Describe implements prometheus.Collector.
func (f fleetCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		issuedDesc, refusedDesc, rotatedDesc, failedDesc, tookDesc, streamsDesc, stateDesc, levelDesc, expiryDesc, offsetDesc, listsDesc, revokeDesc, fallenDesc, provenDesc, behindDesc, backDesc,
		madeDesc, callsDesc, durableDesc,
	} {
		descs <- desc
	}
}

// Collect implements prometheus.Collector.
func (f fleetCollector) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	figures, err := f.control.Figures(ctx)
	if err != nil {
		f.log.Error("count the placements for metrics", "error", err)
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
	counter(madeDesc, figures.Commits.Made)
	counter(callsDesc, figures.Commits.Calls)
	metrics <- prometheus.MustNewConstMetric(durableDesc, prometheus.CounterValue, figures.Commits.Took.Seconds())
	gauge(streamsDesc, float64(figures.Streams))
	metrics <- prometheus.MustNewConstHistogram(tookDesc, figures.Took.Count, figures.Took.Sum.Seconds(), seconds(figures.Took.Buckets))
	if words, err := f.control.RolledBack(ctx); err == nil {
		gauge(backDesc, oneWhile(words != ""))
	}
	for state, n := range figures.Fleet.ByState {
		gauge(stateDesc, float64(n), stateLabel(state))
	}
	for level, n := range figures.Fleet.ByLevel {
		gauge(levelDesc, float64(n), levelLabel(level))
	}
	if !figures.Fleet.NextExpiry.IsZero() {
		gauge(expiryDesc, float64(figures.Fleet.NextExpiry.UnixMilli())/1000)
	}
	for authority, end := range figures.Fleet.ListsEnd {
		gauge(listsDesc, float64(end.UnixMilli())/1000, authority)
	}
	gauge(revokeDesc, float64(figures.Fleet.Revocations))
	gauge(fallenDesc, float64(figures.Fleet.Compromises))
	for _, one := range figures.Fleet.Synthetics {
		proven, behind := 0.0, 0.0
		if !one.Proven.IsZero() {
			proven = float64(one.Proven.UnixMilli()) / 1000
		}
		if one.Behind {
			behind = 1
		}
		gauge(provenDesc, proven, one.Region, one.Intent)
		gauge(behindDesc, behind, one.Region, one.Intent)
	}
	for agent, offset := range figures.ClockOffsets {
		gauge(offsetDesc, offset.Seconds(), agent)
	}
}

func seconds(buckets map[time.Duration]uint64) map[float64]uint64 {
	out := make(map[float64]uint64, len(buckets))
	for bound, n := range buckets {
		out[bound.Seconds()] = n
	}
	return out
}

func levelLabel(level api.Level) string {
	switch level {
	case api.Level_LEVEL_DELIVERED:
		return "delivered"
	case api.Level_LEVEL_LOADED:
		return "loaded"
	case api.Level_LEVEL_PROVEN:
		return "proven"
	}
	return "nothing"
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

// oneWhile is the value of a gauge that is 1 while something is so, and else 0.
func oneWhile(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
