package rootchange

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// witnessed waits until every agent has seen the whole log: what none has seen a
// store can lose without anybody's notice. After a server was killed its entries
// wait for the sequencer's lease to end. The log is verified as one that was never
// looked at before: that of an earlier row may have lost its end.
func (f *fleet) witnessed() {
	f.t.Helper()
	memory := f.t.TempDir()
	f.until("all agents have seen the whole log", func() error {
		tail, err := f.try("audit", "tail")
		if err != nil {
			return err
		}
		if strings.Contains("\n"+tail, "\npending") {
			return fmt.Errorf("entries are pending")
		}
		text, err := f.try("audit", "verify", "--memory", memory, "-o", "json")
		if err != nil {
			return err
		}
		var log struct{ Size uint64 }
		if err := json.Unmarshal([]byte(text), &log); err != nil {
			return err
		}
		for _, host := range hosts {
			seen, err := f.witness(host)
			if err != nil {
				return err
			}
			if seen < log.Size {
				return fmt.Errorf("the agent of %s has seen %d of %d entries", host, seen, log.Size)
			}
		}
		return nil
	})
}

// witness is how much of the log a host's agent has seen: the second line of the
// checkpoint that it keeps.
func (f *fleet) witness(host string) (uint64, error) {
	text, err := os.ReadFile(f.path(host + "-state/witness"))
	if err != nil {
		return 0, err
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) < 2 {
		return 0, fmt.Errorf("the agent of %s keeps no checkpoint: %q", host, text)
	}
	return strconv.ParseUint(lines[1], 10, 64)
}
