package contact

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
)

// target is a checked target of Dial.
type target struct {
	// What gRPC gets, and its scheme.
	dials, scheme string
	// Every address is on this machine.
	loopback bool
	// Those of ipv4: and ipv6:, for which gRPC has no resolver in Go.
	addresses []string
}

var (
	schemes = []string{"dns", "ipv4", "ipv6", "unix", "unix-abstract", "xds"}
	// A name or an IPv6 address in brackets, and what may be meant as a port.
	hostPort = regexp.MustCompile(`^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::([^:/@\s]*))?$`)
)

// parseTarget checks a target. The error names the faulty part. It never repeats the text, which may hold a
// password.
func parseTarget(text string) (parsed target, err error) {
	if text == "" {
		return target{}, refused("target", "the target is empty")
	}
	scheme, rest, _ := strings.Cut(text, ":")
	if !strings.HasPrefix(rest, "//") && !slices.Contains(schemes, scheme) {
		scheme, rest, text = "dns", text, "dns:///"+text
	}
	parsed = target{dials: text, scheme: scheme}
	switch {
	case scheme == "dns":
		nameServer, endpoint := "", rest
		if after, found := strings.CutPrefix(rest, "//"); found {
			nameServer, endpoint, _ = strings.Cut(after, "/")
		}
		parsed.loopback, err = checkHostPort(endpoint)
		// Another name server may know another localhost.
		parsed.loopback = parsed.loopback && nameServer == ""
	case scheme == "ipv4" || scheme == "ipv6":
		parsed.addresses, parsed.loopback = strings.Split(rest, ","), true
		for _, address := range parsed.addresses {
			loopback, wrong := checkHostPort(address)
			if ip, _ := netip.ParseAddrPort(address); wrong == nil && (!ip.IsValid() || ip.Addr().Is4() != (scheme == "ipv4")) {
				wrong = refused("target", "the host of the target is not an address of its scheme")
			}
			if wrong != nil {
				return target{}, wrong
			}
			parsed.loopback = parsed.loopback && loopback
		}
	case strings.HasPrefix(scheme, "unix"):
		parsed.loopback = true
	case scheme != "xds" && resolver.Get(scheme) == nil:
		// Resolvers that the program registered are welcome. That of xds has a package of its own.
		return target{}, refused("target", "the scheme of the target is unknown to gRPC: leave it out")
	}
	return parsed, err
}

// checkHostPort also says whether the host is this machine.
func checkHostPort(text string) (loopback bool, err error) {
	match := hostPort.FindStringSubmatch(text)
	if match == nil {
		return false, refused("target", "the host of the target is missing or malformed")
	}
	if port, err := strconv.ParseUint(match[3], 10, 16); err != nil || port == 0 {
		return false, refused("target", "the port of the target is missing or not a number from 1 to 65535")
	}
	address, err := netip.ParseAddr(match[1] + match[2])
	if match[1] != "" && (err != nil || !address.Is6()) {
		return false, refused("target", "the host of the target is not an IPv6 address")
	}
	return address.IsLoopback() || strings.EqualFold(strings.TrimSuffix(match[2], "."), "localhost"), nil
}

// resolver is that of ipv4: and ipv6:. The certificate of each server must be for its own address.
func (t target) resolver() resolver.Builder {
	builder := manual.NewBuilderWithScheme(t.scheme)
	var state resolver.State
	for _, address := range t.addresses {
		one := []resolver.Address{{Addr: address, ServerName: address}}
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: one})
	}
	builder.InitialState(state)
	return builder
}
