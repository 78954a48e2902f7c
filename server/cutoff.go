package server

import (
	"net/http"
	"time"

	"google.golang.org/grpc"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// errCutOff refuses all that takes the store: it would wait for that, and fail.
var errCutOff = fault.New(fault.Unavailable, "this server is cut off from its store and only renews certificates that it knows").
	WithRemedy("another region's servers do it; here it is done when the store is back").WithAfter(comeAgain)

// comeAgain is when a web client may ask a server again that is cut off.
const comeAgain = 5 * time.Second

// withStore lets through what takes the store, where this server has one now. What
// then waits for it is not kept from failing in its own time.
func (s *Server) withStore(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.control.CutOff() {
			s.refuse(w, r, errCutOff)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// errBack ends streams of a server that was cut off: what is desired comes again.
var errBack = fault.New(fault.Unavailable, "the store is back").WithRemedy("connect again")

// backBeat is how often such a stream looks whether the store is back.
const backBeat = 250 * time.Millisecond

// syncCutOff keeps an agent's stream open without the store: it tells nothing new,
// and takes no report, but the agent may ask for renewals beside it.
func (a *agents) syncCutOff(stream grpc.BidiStreamingServer[api.AgentReport, api.DesiredState], caller control.Caller) error {
	state, err := a.control.HeartCutOff(caller)
	if err != nil {
		return err
	}
	if err := stream.Send(state); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { // ends with the handler's return at the latest
		for {
			if _, err := stream.Recv(); err != nil {
				ended <- err
				return
			}
		}
	}()
	beat := time.NewTicker(backBeat)
	defer beat.Stop()
	for a.control.CutOff() {
		select {
		case <-beat.C:
		case err := <-ended:
			return err
		case <-a.streams.Done():
			return errStopping
		}
	}
	return errBack
}

// spoolCollector shows how far this server is from its store.
type spoolCollector struct{ control *control.Control }

var (
	cutOffDesc  = describe("cut_off", "1 while this server renews without its store.")
	spooledDesc = describe("spooled_certificates", "Certificates that wait to be handed in to the store.")
	knownDesc   = describe("spool_placements", "Placements that this server would renew without its store.")
	failingDesc = describe("spool_failing", "1 while the spool can't be written, as on a full disk: without the store nothing may be renewed.")
	contactDesc = describe("store_contact_age_seconds", "How long ago the store answered last, where this server renews without it.")
)

// Describe implements prometheus.Collector.
func (s spoolCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{cutOffDesc, spooledDesc, knownDesc, failingDesc, contactDesc} {
		descs <- desc
	}
}

// Collect implements prometheus.Collector.
func (s spoolCollector) Collect(metrics chan<- prometheus.Metric) {
	spooled, on := s.control.Spooled()
	if !on {
		return
	}
	metrics <- prometheus.MustNewConstMetric(cutOffDesc, prometheus.GaugeValue, oneWhile(spooled.CutOff))
	metrics <- prometheus.MustNewConstMetric(failingDesc, prometheus.GaugeValue, oneWhile(spooled.Failing))
	metrics <- prometheus.MustNewConstMetric(spooledDesc, prometheus.GaugeValue, float64(spooled.Waiting))
	metrics <- prometheus.MustNewConstMetric(knownDesc, prometheus.GaugeValue, float64(spooled.Known))
	metrics <- prometheus.MustNewConstMetric(contactDesc, prometheus.GaugeValue, spooled.Contact.Seconds())
}

// storeCollector is one that asks the store. While there is none nobody waits for it.
type storeCollector struct {
	prometheus.Collector
	control *control.Control
}

// Collect implements prometheus.Collector.
func (s storeCollector) Collect(metrics chan<- prometheus.Metric) {
	if !s.control.CutOff() {
		s.Collector.Collect(metrics)
	}
}
