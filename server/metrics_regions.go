package server

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rotunda-pki/rotunda/control"
)

// regionCollector shows how the regions do, as any server of the store sees it.
type regionCollector struct {
	control *control.Control
	log     *slog.Logger
}

var (
	regionServersDesc = describe("region_servers", "Servers of a region, by whether they are heard of.", "region", "heard")
	regionAgentsDesc  = describe("region_agents", "Agents of a region, by whether they are heard of.", "region", "heard")
	regionAwayDesc    = describe("region_signed_elsewhere", "1: another authority signs in the place of the region's own.", "region", "authority")
	regionTroubleDesc = describe("region_troubles", "How much is wrong with a region: rotunda status --regions says what.", "region")
)

// Describe implements prometheus.Collector.
func (r regionCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{regionServersDesc, regionAgentsDesc, regionAwayDesc, regionTroubleDesc} {
		descs <- desc
	}
}

// Collect implements prometheus.Collector.
func (r regionCollector) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	regions, err := r.control.RegionFigures(ctx)
	if err != nil {
		r.log.Error("look at the regions for metrics", "error", err)
	}
	gauge := func(desc *prometheus.Desc, value int, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(value), labels...)
	}
	for _, one := range regions {
		alive := 0
		for _, server := range one.Servers {
			if server.Alive {
				alive++
			}
		}
		gauge(regionServersDesc, alive, one.Name, "yes")
		gauge(regionServersDesc, len(one.Servers)-alive, one.Name, "no")
		gauge(regionAgentsDesc, int(one.Heard), one.Name, "yes")
		gauge(regionAgentsDesc, int(one.Agents-one.Heard), one.Name, "no")
		away := 0
		if one.Away != "" {
			away = 1
		}
		gauge(regionAwayDesc, away, one.Name, one.Signer)
		gauge(regionTroubleDesc, len(one.Troubles), one.Name)
	}
}
