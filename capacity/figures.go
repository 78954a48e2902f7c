// Package capacity reckons what an installation needs from figures that were
// measured: signatures, handshakes, storage, memory, and how an outage is made
// up for.
package capacity

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/internal/measure"
)

// Figure is one that was measured.
type Figure struct {
	Key    string  `json:"key"`
	What   string  `json:"what"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Source string  `json:"source"`
}

// Figures is a table of them.
type Figures []Figure

// units in seconds and bytes.
var units = map[string]float64{"µs": 1e-6, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20}

// Measured are the figures that count unless a run of the operator's own says
// otherwise. They are from two shared cores; certificates and rotations under a load
// of 5 to 14, which makes them dearer than a quiet machine would.
func Measured() Figures {
	const file = "counted with dbstat, 62,836 certificates with their indexes, SQLite"
	return Figures{
		{"cpu.issue", "a certificate, in calls of 50", 488, "µs", "rotunda bench issue --batch 50"},
		{"cpu.renew", "a rotation: asked, issued, reported", 2300, "µs", "rotunda bench renew --agents 200"},
		{"cpu.connect", "an agent that connects, till it knows what is desired", 1278, "µs", "rotunda bench fleet --agents 10000, all back after an outage"},
		{"cpu.idle", "a connected agent, a second", 3.5, "µs", "rotunda bench fleet --agents 10000"},
		{"memory.server", "a server to which nobody is connected", 24.7, "MiB", "rotunda bench fleet --agents 10000"},
		{"memory.agent", "a connected agent", 73.7, "KiB", "rotunda bench fleet --agents 10000"},
		{"store.certificate", "a certificate's record", 940, "B", file},
		{"store.audit", "an audit entry", 415, "B", file},
	}
}

func (f Figures) of(key string) Figure {
	i := slices.IndexFunc(f, func(one Figure) bool { return one.Key == key })
	return f[i] // each key is one of Measured's
}

func (f Figures) seconds(key string) float64 { return f.of(key).Value * units[f.of(key).Unit] }
func (f Figures) bytes(key string) float64   { return f.of(key).Value * units[f.of(key).Unit] }

// With takes the place of figures by those of a report of rotunda bench or make
// bench, read from a file of that name.
func (f Figures) With(name string, content []byte) (Figures, error) {
	var report measure.Report
	if err := json.Unmarshal(content, &report); err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "%s is no report of a benchmark", name).
			WithRemedy("make one with: rotunda bench fleet -o json")
	}
	all, taken := slices.Clone(f), 0
	for _, result := range report.Results {
		i := slices.IndexFunc(all, func(one Figure) bool { return one.Key == result.Key })
		if i < 0 {
			continue
		}
		if result.Unit != all[i].Unit || result.Value < 0 {
			return nil, fault.New(fault.Invalid, "%s: %s is %g %s, it is a figure in %s that is not negative", name, result.Key, result.Value, result.Unit, all[i].Unit)
		}
		all[i].Value, all[i].Source = result.Value, name+", load "+report.Host.LoadBefore
		taken++
	}
	if taken == 0 {
		return nil, fault.New(fault.Invalid, "%s has none of the figures that are reckoned with: %s", name, strings.Join(f.keys(), ", ")).
			WithRemedy("run the benchmark on the server's machine, with --socket or --server-pid: else CPU time and memory are not measured")
	}
	return all, nil
}

func (f Figures) keys() (keys []string) {
	for _, one := range f {
		keys = append(keys, one.Key)
	}
	return keys
}
