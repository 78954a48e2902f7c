package fleet

// Region is a place where servers and agents run. Agents prefer the servers
// of their own region.
type Region struct {
	// What the region is, for people.
	Description string `json:"description,omitempty"`
	// The addresses, host:port, at which agents reach the region's servers.
	Servers []string `json:"servers,omitempty"`
}

func (*Region) kind() Kind { return KindRegion }
