package fly

import (
	"math"
	"strings"
)

// A location is where a region is, in degrees.
type location struct{ latitude, longitude float64 }

// locate knows the regions that Fly runs (https://fly.io/docs/reference/regions/, November 2026). Codes come and go, so one
// that is not here is normal and only means that its distance is unknown.
func locate(region string) (location, bool) {
	switch strings.ToLower(region) {
	case "ams": // Amsterdam
		return location{52.374, 4.895}, true
	case "arn": // Stockholm
		return location{59.651, 17.918}, true
	case "bom": // Mumbai
		return location{19.097, 72.874}, true
	case "cdg": // Paris
		return location{48.861, 2.353}, true
	case "dfw": // Dallas
		return location{32.778, -96.798}, true
	case "ewr": // Secaucus, New Jersey
		return location{40.790, -74.057}, true
	case "fra": // Frankfurt
		return location{50.117, 8.683}, true
	case "gru": // São Paulo
		return location{-23.550, -46.654}, true
	case "iad": // Ashburn, Virginia
		return location{39.022, -77.463}, true
	case "jnb": // Johannesburg
		return location{-26.136, 28.203}, true
	case "lax": // Los Angeles
		return location{33.942, -118.409}, true
	case "lhr": // London
		return location{51.516, -0.126}, true
	case "nrt": // Tokyo
		return location{35.622, 139.742}, true
	case "ord": // Chicago
		return location{41.892, -87.630}, true
	case "sin": // Singapore
		return location{1.3, 103.8}, true
	case "sjc": // San Jose, California
		return location{37.352, -121.897}, true
	case "syd": // Sydney
		return location{-33.866, 151.207}, true
	case "yyz": // Toronto
		return location{43.645, -79.384}, true
	}
	return location{}, false
}

// Distance is the great-circle distance between two regions in kilometres. A region is 0 km from itself, known code or not;
// otherwise known is false, and km 0, when either code is not known.
func Distance(a, b string) (km float64, known bool) {
	if a != "" && strings.EqualFold(a, b) {
		return 0, true
	}
	from, ok := locate(a)
	if !ok {
		return 0, false
	}
	to, ok := locate(b)
	if !ok {
		return 0, false
	}
	return haversine(from, to), true
}

// haversine is the distance on a sphere of the Earth's mean radius: at most 0.5 % off, which is far less than what a cable's
// way differs from it.
func haversine(a, b location) float64 {
	const (
		earth  = 6371.0 // km, mean radius (IUGG)
		radian = math.Pi / 180
	)
	dLat := (b.latitude - a.latitude) * radian
	dLon := (b.longitude - a.longitude) * radian
	h := math.Pow(math.Sin(dLat/2), 2) +
		math.Cos(a.latitude*radian)*math.Cos(b.latitude*radian)*math.Pow(math.Sin(dLon/2), 2)
	return 2 * earth * math.Asin(math.Sqrt(min(h, 1)))
}
