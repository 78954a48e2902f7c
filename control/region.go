package control

import (
	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
)

// serversOf are where the servers of all regions are, as the Region documents
// say.
func serversOf(set fleet.Set) (servers []*api.RegionServer) {
	for _, document := range set.OfKind(fleet.KindRegion) {
		region, _ := document.Spec.(*fleet.Region)
		for _, address := range region.Servers {
			servers = append(servers, &api.RegionServer{Region: string(document.Name), Address: address})
		}
	}
	return servers
}
