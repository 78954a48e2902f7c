package rollout

// index finds where in a list a key stands, by the key's hash. It holds places
// only, no keys: a million of them in 4 to 8 MB.
type index struct {
	slots []uint32 // place + 1; 0: free
	used  int
}

// find returns the place of the key with the hash that same says is meant.
func (x *index) find(hash uint64, same func(place uint32) bool) (uint32, bool) {
	if len(x.slots) == 0 {
		return 0, false
	}
	mask := uint64(len(x.slots) - 1)
	for i := hash & mask; x.slots[i] != 0; i = (i + 1) & mask {
		if same(x.slots[i] - 1) {
			return x.slots[i] - 1, true
		}
	}
	return 0, false
}

// add puts in a key that is not there. hashOf is asked for the others' hashes
// when the index grows.
func (x *index) add(hash uint64, place uint32, hashOf func(place uint32) uint64) {
	if 8*(x.used+1) > 7*len(x.slots) {
		old := x.slots
		x.slots = make([]uint32, max(16, 2*len(old)))
		for _, slot := range old {
			if slot != 0 {
				x.put(hashOf(slot-1), slot)
			}
		}
	}
	x.put(hash, place+1)
	x.used++
}

func (x *index) put(hash uint64, slot uint32) {
	mask := uint64(len(x.slots) - 1)
	i := hash & mask
	for x.slots[i] != 0 {
		i = (i + 1) & mask
	}
	x.slots[i] = slot
}

// names holds each name once.
type names struct {
	list  []string
	index index
}

func (n *names) find(name string) (uint32, bool) {
	return n.index.find(hashText(name), func(at uint32) bool { return n.list[at] == name })
}

func (n *names) intern(name string) uint32 {
	if at, known := n.find(name); known {
		return at
	}
	at := uint32(len(n.list))
	n.list = append(n.list, name)
	n.index.add(hashText(name), at, func(at uint32) uint64 { return hashText(n.list[at]) })
	return at
}

// hashText is FNV-1a, with its bits spread into the low ones.
func hashText(text string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * 1099511628211
	}
	return h ^ h>>29
}
