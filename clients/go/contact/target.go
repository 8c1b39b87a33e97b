package contact

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
)

// hostPort is a name or an IPv6 address in brackets, and what may be meant as a port.
var hostPort = regexp.MustCompile(`^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::([^:/@\s]*))?$`)

// parseTarget returns what gRPC gets, with an option that it needs, and whether every address is on this
// machine. The error names the faulty part. It never repeats the text, which may hold a password.
func parseTarget(text string) (dials string, option grpc.DialOption, loopback bool, err error) {
	scheme, rest, _ := strings.Cut(text, ":")
	name, slashes := strings.CutPrefix(rest, "//")
	switch {
	case scheme == "dns" && slashes:
		nameServer, endpoint, _ := strings.Cut(name, "/")
		loopback, err = checkHostPort(endpoint)
		// Another name server may know another localhost. Without this option, gRPC also asks for a TXT
		// record, whose service config would replace that of the package.
		return text, grpc.WithDisableServiceConfig(), loopback && nameServer == "", err
	case scheme == "ipv4" || scheme == "ipv6":
		builder := manual.NewBuilderWithScheme(scheme)
		loopback, err = resolve(builder, strings.Split(rest, ","))
		return text, grpc.WithResolvers(builder), loopback, err
	case scheme == "unix" || scheme == "unix-abstract":
		return text, grpc.EmptyDialOption{}, true, nil
	case !slashes:
		return parseTarget("dns:///" + strings.TrimPrefix(text, "dns:"))
	case resolver.Get(scheme) == nil:
		return "", nil, false, refused("target", "the scheme of the target is unknown to gRPC: leave it out, or import it")
	default:
		// The program has registered the resolver.
		return text, grpc.EmptyDialOption{}, false, nil
	}
}

// resolve gives the builder the addresses of ipv4: or ipv6:, for which gRPC has no resolver in Go. The
// certificate of each server must be for its own address.
func resolve(builder *manual.Resolver, addresses []string) (bool, error) {
	loopback, state := true, resolver.State{}
	for _, address := range addresses {
		ip, err := netip.ParseAddrPort(address)
		if err != nil || ip.Port() == 0 || ip.Addr().Is4() != (builder.Scheme() == "ipv4") {
			return false, refused("target", "the host of the target is not a list of addresses of its scheme with ports")
		}
		loopback = loopback && ip.Addr().IsLoopback()
		one := []resolver.Address{{Addr: address, ServerName: address}}
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: one})
	}
	builder.InitialState(state)
	return loopback, nil
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
