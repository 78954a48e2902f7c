package agent

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

var (
	connectedDesc  = agentMetric("connected", "1 while a stream to a server is open.")
	sessionsDesc   = agentMetric("sessions_total", "Streams that have worked since the agent was started.")
	serverDesc     = agentMetric("server", "1 for the server to which the stream is open.", "server", "region", "circle")
	breakerDesc    = agentMetric("server_breaker", "1 for the state that the breaker of a server is in: closed, open or half-open.", "server", "region", "state")
	returnsDesc    = agentMetric("returns_total", "Times that the agent went back to a nearer server since it was started.")
	clockDesc      = agentMetric("clock_offset_seconds", "How far this host's clock is ahead of the server's.")
	identityDesc   = agentMetric("identity_not_after_seconds", "End of the agent's own certificate, Unix time.")
	alarmDesc      = agentMetric("alarm", "1 for each alarm that stands.", "kind")
	notAfterDesc   = agentMetric("placement_not_after_seconds", "End of the certificate in use, Unix time.", "placement")
	generationDesc = agentMetric("placement_generation", "Generation in use.", "placement")
	stateDesc      = agentMetric("placement_state", "1 for the state that the placement is in.", "placement", "state")
	rotationsDesc  = agentMetric("placement_rotations_total", "Rotations committed since enrolment.", "placement")
	restoresDesc   = agentMetric("placement_restores_total", "Rotations taken back since enrolment.", "placement")
)

func agentMetric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("rotunda_agent_"+name, help, labels, nil)
}

// collector reads the figures off the agent when they are asked for: an idle
// agent keeps none.
type collector struct{ *Agent }

// Describe implements prometheus.Collector.
func (c collector) Describe(out chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		connectedDesc, sessionsDesc, serverDesc, breakerDesc, returnsDesc, clockDesc, identityDesc, alarmDesc,
		notAfterDesc, generationDesc, stateDesc, rotationsDesc, restoresDesc,
	} {
		out <- desc
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	counter := func(desc *prometheus.Desc, value uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(value), labels...)
	}
	connected := 0.0
	status := c.syncer.status()
	if status.Connected {
		connected = 1
	}
	for _, server := range status.Servers {
		gauge(breakerDesc, 1, server.Address, server.Region, string(server.Breaker))
		if status.Connected && server.Address == status.Server {
			gauge(serverDesc, 1, server.Address, server.Region, server.Circle)
		}
	}
	counter(returnsDesc, status.Returns)
	gauge(connectedDesc, connected)
	counter(sessionsDesc, c.syncer.sessions.Load())
	if offset, known := c.syncer.clock.offset(); known {
		gauge(clockDesc, offset.Seconds())
	}
	gauge(identityDesc, float64(c.Identity().NotAfter().Unix()))
	for _, kind := range c.alarms.kinds() {
		gauge(alarmDesc, 1, kind)
	}
	for _, report := range c.executor.Reports() {
		gauge(stateDesc, 1, report.PlacementId, report.State.String())
		gauge(generationDesc, float64(report.Generation), report.PlacementId)
		if report.NotAfter != nil {
			gauge(notAfterDesc, float64(report.NotAfter.Seconds), report.PlacementId)
		}
		counter(rotationsDesc, report.Rotations, report.PlacementId)
		counter(restoresDesc, report.Restores, report.PlacementId)
	}
}

// serveMetrics serves /metrics until ctx ends. That the address is taken is an
// error at the start, not a line in a log.
func (a *Agent) serveMetrics(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", a.config.Metrics)
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "metrics").WithRemedy("give metrics another address in agent.yaml, or none")
	}
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(collector{a}); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		server.Close()
	}()
	err = server.Serve(listener)
	if errors.Is(err, http.ErrServerClosed) {
		err = ctx.Err()
	}
	<-stopped
	return err
}
