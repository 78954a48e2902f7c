package agent

import (
	"errors"
	"fmt"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// mostWitnesses is how many cosignatures a checkpoint has room for.
const mostWitnesses = 16

// WitnessesConfig is who outside must cosign the audit log that this agent is
// shown. It stands here and is not taken from the server, which is the one that
// is watched.
type WitnessesConfig struct {
	// Required is how many of them must have cosigned what the agent was shown,
	// within ten minutes; if not, the agent raises an alarm.
	Required int `yaml:"required"`

	// Keys are the witnesses' public keys (vkeys), as who runs them says:
	// NAME+HASH+KEY, of Ed25519 cosigners. Each witness counts once.
	Keys []string `yaml:"keys"`
}

func (v *configCheck) checkWitnesses(w WitnessesConfig) {
	const field = "witnesses"
	if w.Required == 0 && len(w.Keys) == 0 {
		return
	}
	if len(w.Keys) > mostWitnesses {
		v.fail("remove some", fmt.Sprintf("%d witnesses are named, at most %d may be", len(w.Keys), mostWitnesses), field, "keys")
		return
	}
	if w.Required < 1 || w.Required > len(w.Keys) {
		v.fail(fmt.Sprintf("write how many of the keys must have cosigned, 1 to %d, or name more keys", max(len(w.Keys), 1)),
			fmt.Sprintf("%d are required of the %d witnesses named", w.Required, len(w.Keys)), field, "required")
	}
	var before []string // that are keys of witnesses
	for i, key := range w.Keys {
		if _, err := audit.NewCosigner(key); err != nil {
			v.refuse(err, field, "keys", i)
			continue
		}
		for _, other := range before {
			if _, err := audit.NewCosigners(other, key); err != nil {
				v.refuse(err, field, "keys", i)
				break
			}
		}
		before = append(before, key)
	}
}

// refuse is fail in the words of an error that has its remedy with it.
func (v *configCheck) refuse(err error, at ...any) {
	message, remedy := err.Error(), "mend it"
	if says, ok := errors.AsType[*fault.Error](err); ok {
		message, remedy = says.What, says.Remedy
	}
	v.fail(remedy, message, at...)
}
