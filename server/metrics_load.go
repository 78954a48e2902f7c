package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rotunda-pki/rotunda/admission"
)

// loadCollector shows how much there is to do, and what was refused for that.
type loadCollector struct{ *Server }

var (
	admittedDesc    = describe("issue_admitted_total", "Requests for certificates that were let in; class unasked: while there was room for all.", "class")
	turnedDesc      = describe("issue_turned_away_total", "Requests for certificates that were told to come back later.", "class")
	runningDesc     = describe("issue_running", "Requests for certificates that are carried out now.")
	waitingDesc     = describe("issue_waiting", "Requests for certificates that wait for their turn here.")
	connectionsDesc = describe("agent_connections", "Connections on the agents' listener.")
	refusedLoadDesc = describe("refused_for_load_total", "What was refused for there being too much of it: calls of one caller, connections of agents, streams that were not read.", "what")
)

// Describe implements prometheus.Collector.
func (l loadCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{admittedDesc, turnedDesc, runningDesc, waitingDesc, connectionsDesc, refusedLoadDesc} {
		descs <- desc
	}
}

// Collect implements prometheus.Collector.
func (l loadCollector) Collect(metrics chan<- prometheus.Metric) {
	counter := func(desc *prometheus.Desc, value uint64, label string) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(value), label)
	}
	gauge := func(desc *prometheus.Desc, value float64) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value)
	}
	count := l.gate.Count()
	counter(admittedDesc, count.Unasked, "unasked")
	for _, class := range admission.Classes {
		counter(admittedDesc, count.Admitted[class], class.String())
		counter(turnedDesc, count.Refused[class], class.String())
	}
	gauge(runningDesc, float64(count.Running))
	gauge(waitingDesc, float64(count.Waiting))
	gauge(connectionsDesc, float64(l.load.open.Load()))
	counter(refusedLoadDesc, l.load.calls.Load(), "calls")
	counter(refusedLoadDesc, l.load.connections.Load(), "connections")
	counter(refusedLoadDesc, l.load.slow.Load(), "unread")
}
