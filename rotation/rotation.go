// Package rotation decides what comes next at one placement: the directory
// where one certificate, its key and a trust bundle live for one process.
//
// Next is a pure function of facts, desires and the time. No current step is
// stored anywhere: the step is derived from what the disk shows and from what
// was recorded before. An agent carries a step out, records the fact that it
// made, and asks again; so it may be killed at any instruction, and whoever
// comes next carries on. Every action may be repeated.
//
//	request ─ stage ─ check ─ activate ─ prove ─ commit ─(grace)─ remove, destroy-key
//	                              │        │
//	                              └────────┴─ restore ─ prove
//
// A member of a cluster waits for a slot before it activates what others would
// miss it for, and lets it go (release) when it is back in its steady state.
//
// A revision is what stands in the directory: a generation of the certificate, a
// bundle, the bridge in the certificate's chain, CRLs and the OCSP response that
// is stapled, where there are such. A new bundle, a bridge that comes or goes,
// fresh CRLs or a fresh response are each a new revision of the same generation
// and pass the same steps without request. What was put in the
// place of a drifted revision is a new revision too.
package rotation

import (
	"time"

	"github.com/rotunda-pki/rotunda/pki"
)

// Action is something to be done at a placement.
type Action string

// The actions. Each may be repeated after a crash.
const (
	Wait       Action = "wait"        // until Step.Until, or until facts or desires change
	Request    Action = "request"     // save key and number, then ask for the certificate
	Stage      Action = "stage"       // write the revision beside the one in use
	Check      Action = "check"       // look at the staged revision before anything depends on it
	Activate   Action = "activate"    // switch to the revision and make the process load it
	Prove      Action = "prove"       // see that the process serves it
	Commit     Action = "commit"      // the revision stands: restores lead here from now on
	Restore    Action = "restore"     // switch back to the revision that stood, and load it
	Repair     Action = "repair"      // stage anew what was edited on the host
	Release    Action = "release"     // the target is well: let the slot go
	Remove     Action = "remove"      // delete the revision's directory
	DestroyKey Action = "destroy-key" // delete the generation's key; its number stays used
)

// Step is what comes next, and why.
type Step struct {
	Action     Action
	Generation uint64           // Request, Stage, Repair, DestroyKey
	Revision   uint64           // Stage, Check, Activate, Prove, Commit, Restore, Repair, Remove
	Bundle     pki.BundleDigest // Stage, Repair
	Bridge     pki.Fingerprint  // Stage, Repair; zero: the chain has none
	CRL        Dated            // Stage, Repair
	Staple     Dated            // Stage, Repair
	NewKey     bool             // Request: make a key
	KeyOf      uint64           // Request without NewKey: the generation whose key is used again; 0: its own, saved already
	Begins     Begun            // Activate: recorded with the switch; without a revision: nothing is begun
	AsksSlot   uint64           // the revision that may not be activated without a slot; 0: none waits
	Reason     string           // in words, for the operator
	Until      time.Time        // Wait: look again then; zero: only when something changes
	Alarm      bool             // Wait: an operator should look
	Lists      string           // what an operator should know of the CRLs, in words; "": nothing
}

// Next derives what comes next. It goes through the rules in order; the first
// that has something to do decides. Rules that decline leave the time when
// they will have something to do, and why they do not now.
func Next(f Facts, d Desired, now time.Time) Step {
	v := look(f, d, now)
	lists := v.watch()
	for _, rule := range []func() *Step{
		v.finish,  // what the directory was switched to is proven, or taken back
		v.advance, // what is staged is checked and activated
		v.refill,  // what is gone from the directory is put back
		v.settle,  // what was restored is loaded and proven again
		v.release, // the slot of a member that is back goes to the next
		v.begin,   // a new generation or revision, where one is wanted
		v.repair,  // drift is put back
		v.clean,   // what nothing needs any more goes
	} {
		if step := rule(); step != nil {
			step.AsksSlot, step.Lists = v.asks, lists
			return *step
		}
	}
	step := v.wait()
	step.Lists = lists
	return step
}
