package control

import (
	"hash/maphash"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
)

// An agent says all of its placements again every now and then, in case something
// was lost. What it said in full before on this very stream, and nothing in between,
// is stored already: it is not stored once more.

var saidSeed = maphash.MakeSeed()

// saysOf is a hash of all that a full report says of placements; 0: it is none.
func saysOf(report *api.AgentReport) uint64 {
	if !report.Full {
		return 0
	}
	var hash maphash.Hash
	hash.SetSeed(saidSeed)
	for _, placement := range report.Placements {
		content, err := proto.MarshalOptions{Deterministic: true}.Marshal(placement)
		if err != nil {
			return 0
		}
		maphash.WriteComparable(&hash, len(content))
		hash.Write(content)
	}
	return max(hash.Sum64(), 1)
}

// saidBefore says whether a report is what its agent said last.
func (c *Control) saidBefore(caller Caller, said uint64) bool {
	entry, here := c.presence.of(caller.ID)
	return here && said != 0 && entry.said == said
}

// keepSaid keeps of a report that was stored whether it need not be again. Of what
// was doubted, and of members of clusters, each is looked at: by when it was said it
// may end a slot.
func (c *Control) keepSaid(caller Caller, said uint64, told []news, doubts []doubt) {
	if len(doubts) > 0 || slices.ContainsFunc(told, func(n news) bool { return n.placement.Cluster != "" }) {
		said = 0
	}
	c.presence.change(func(entry *present) { entry.said = said }, caller.ID)
}
