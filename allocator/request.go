package allocator

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// The annotations of a Service that this package reads. Those of MetalLB, old
// and new, are synonyms.
const (
	AnnotationAddresses       = "fairlead.io/addresses"
	AnnotationPool            = "fairlead.io/pool"
	AnnotationShareKey        = "fairlead.io/share-key"
	AnnotationShareNamespaces = "fairlead.io/share-namespaces"
	AnnotationForwarding      = snapshot.AnnotationForwarding // no address depends on it
	AnnotationPorts           = snapshot.AnnotationPorts
	AnnotationEgress          = snapshot.AnnotationEgress  // as little
	AnnotationAnycast         = snapshot.AnnotationAnycast // as little
)

var (
	addressKeys = []string{AnnotationAddresses, "metallb.io/loadBalancerIPs", "metallb.universe.tf/loadBalancerIPs"}
	poolKeys    = []string{AnnotationPool, "metallb.io/address-pool", "metallb.universe.tf/address-pool"}
	shareKeys   = []string{AnnotationShareKey, "metallb.io/allow-shared-ip", "metallb.universe.tf/allow-shared-ip"}
	consentKeys = []string{AnnotationShareNamespaces}
	forwardKeys = []string{AnnotationForwarding}
	portKeys    = []string{AnnotationPorts}
	egressKeys  = []string{AnnotationEgress}
	anycastKeys = []string{AnnotationAnycast}
)

// OwnAnnotations lists the annotations of Services that are fairlead's own.
func OwnAnnotations() []string {
	return []string{AnnotationAddresses, AnnotationPool, AnnotationShareKey, AnnotationShareNamespaces, AnnotationForwarding, AnnotationPorts,
		AnnotationEgress, AnnotationAnycast, snapshot.AnnotationRemoved, snapshot.AnnotationAffinity, snapshot.AnnotationHelper, snapshot.AnnotationSourcePorts}
}

// Annotations lists the annotations of Services that this package reads, its own first.
func Annotations() []string {
	out := OwnAnnotations()
	for _, keys := range [][]string{addressKeys, poolKeys, shareKeys, consentKeys, forwardKeys, egressKeys, anycastKeys} {
		out = append(out, keys[1:]...)
	}
	return out
}

// request is what a Service asks for.
type request struct {
	addrs    []netip.Addr         // sorted; none: any
	pool     string               // "": any that serves it, or one of pools
	pools    []string             // at least two: addresses of each; see several
	key      string               // share key; "": alone
	consent  []string             // namespaces with which it shares, besides its own
	ranges   []snapshot.PortRange // of ports, sorted
	warnings []snapshot.Refusal
}

// parseRequest reads what svc asks for. The Refusal is InvalidRequest,
// ConflictingRequest or TooLarge; then nothing of the request may be acted on.
func parseRequest(svc *snapshot.Service) (request, *snapshot.Refusal) {
	var r request
	if len(svc.Annotations) == 0 && svc.LoadBalancerIP == "" {
		return r, nil
	}
	var why *snapshot.Refusal
	if r.addrs, why = parseOf(svc, addressKeys, parseAddrs, slices.Equal); why != nil {
		return request{}, why
	}
	if why = r.readLoadBalancerIP(svc); why != nil {
		return request{}, why
	}
	if r.pools, why = parseOf(svc, poolKeys, parsePools, slices.Equal); why != nil {
		return request{}, why
	}
	if len(r.pools) == 1 {
		r.pool, r.pools = r.pools[0], nil
	}
	if r.key, why = parseOf(svc, shareKeys, parseShareKey, equal); why != nil {
		return request{}, why
	}
	if r.consent, why = parseOf(svc, consentKeys, parseNamespaces, slices.Equal); why != nil {
		return request{}, why
	}
	if r.ranges, why = parseOf(svc, portKeys, parseRanges, slices.Equal); why != nil {
		return request{}, why
	}
	if _, why = parseOf(svc, forwardKeys, parseForwarding, equal); why != nil {
		return request{}, why
	}
	if why = parseConnections(svc); why != nil {
		return request{}, why
	}
	if _, why = parseOf(svc, egressKeys, parseBool, equal); why != nil {
		return request{}, why
	}
	if _, why = parseOf(svc, anycastKeys, parseBool, equal); why != nil {
		return request{}, why
	}
	return r, nil
}

func equal[T comparable](a, b T) bool { return a == b }

// readLoadBalancerIP adds the deprecated field to what the annotations ask.
func (r *request) readLoadBalancerIP(svc *snapshot.Service) *snapshot.Refusal {
	text := strings.TrimSpace(svc.LoadBalancerIP)
	if text == "" {
		return nil
	}
	addr, why := parseAddr("spec.loadBalancerIP", text)
	if why != nil {
		return why
	}
	r.warnings = append(r.warnings, snapshot.Refusal{Reason: DeprecatedLoadBalancerIP,
		Message: "spec.loadBalancerIP is deprecated in Kubernetes; use the annotation " + AnnotationAddresses})
	// Kubernetes deprecates the field since 1.24.
	if r.addrs == nil {
		r.addrs = []netip.Addr{addr}
		return nil
	}
	if !slices.Equal(r.addrs, []netip.Addr{addr}) {
		return refuse(ConflictingRequest, "spec.loadBalancerIP asks for %s, an annotation for %s", addr, join(r.addrs))
	}
	r.warnings = append(r.warnings, snapshot.Refusal{Reason: DuplicateRequest,
		Message: fmt.Sprintf("spec.loadBalancerIP and an annotation both ask for %s", addr)})
	return nil
}

// LongestAnnotation is how many bytes of an annotation are read. One with more is refused.
const LongestAnnotation = 4096

// parseOf reads the annotations that keys name, all synonyms. A blank value
// counts as absent.
func parseOf[T any](svc *snapshot.Service, keys []string, parse func(key, text string) (T, *snapshot.Refusal), same func(a, b T) bool) (T, *snapshot.Refusal) {
	var got, none T
	from := ""
	for _, key := range keys {
		text := strings.TrimSpace(svc.Annotations[key])
		if text == "" {
			continue
		}
		// A tenant could fill the controller's memory with annotations.
		if len(svc.Annotations[key]) > LongestAnnotation {
			return none, refuse(InvalidRequest, "the annotation %s has more than %d bytes", key, LongestAnnotation)
		}
		v, why := parse(key, text)
		if why != nil {
			return none, why
		}
		if from != "" && !same(got, v) {
			return none, refuse(ConflictingRequest, "the annotations %s and %s differ", from, key)
		}
		if from == "" {
			got, from = v, key
		}
	}
	return got, nil
}

// addrsMax is how many addresses, and poolsMax how many pools, a Service can ask for.
const addrsMax, poolsMax = 8, 4

// parseAddrs reads addresses; sorted.
func parseAddrs(key, text string) ([]netip.Addr, *snapshot.Refusal) {
	parts := strings.Split(text, ",")
	if len(parts) > addrsMax {
		return nil, refuse(InvalidRequest, "%s: %s: more than %d addresses", key, quote(text), addrsMax)
	}
	var addrs []netip.Addr
	for _, part := range parts {
		a, why := parseAddr(key, strings.TrimSpace(part))
		if why != nil {
			return nil, why
		}
		addrs = append(addrs, a)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	if once := slices.Compact(slices.Clone(addrs)); len(once) < len(addrs) {
		return nil, refuse(InvalidRequest, "%s: %s: an address stands there twice", key, quote(text))
	}
	return addrs, nil
}

func parseAddr(key, text string) (netip.Addr, *snapshot.Refusal) {
	a, err := netip.ParseAddr(text)
	// A record is named by its address: one address must not have two names.
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return netip.Addr{}, refuse(InvalidRequest, "%s: %s is not an IP address", key, quote(text))
	}
	return a, nil
}

// parsePools reads names of pools, in their order.
func parsePools(key, text string) ([]string, *snapshot.Refusal) {
	names := strings.Split(text, ",")
	if len(names) > poolsMax {
		return nil, refuse(InvalidRequest, "%s: %s: more than %d pools", key, quote(text), poolsMax)
	}
	for i, name := range names {
		names[i] = strings.TrimSpace(name)
		switch {
		case !isName(names[i], 253, "."):
			return nil, refuse(InvalidRequest, "%s: %s cannot be the name of a pool", key, quote(names[i]))
		case slices.Contains(names[:i], names[i]):
			return nil, refuse(InvalidRequest, "%s: %s: a pool stands there twice", key, quote(text))
		}
	}
	return names, nil
}

func parseRanges(key, text string) ([]snapshot.PortRange, *snapshot.Refusal) {
	ranges, err := snapshot.ParsePortRanges(text)
	switch {
	case err != nil:
		return nil, refuse(InvalidRequest, "%s: %s: %s", key, quote(text), err)
	case len(ranges) > snapshot.MostPortRanges:
		return nil, refuse(TooLarge, "%s: %d ranges of ports, and a Service can have %d", key, len(ranges), snapshot.MostPortRanges)
	}
	return ranges, nil
}

// shareKeyMax is what the Address kind can store.
const shareKeyMax = 253

func parseShareKey(key, text string) (string, *snapshot.Refusal) {
	bad := strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' })
	if bad || len(text) > shareKeyMax {
		return "", refuse(InvalidRequest, "%s: %s is not a share key: up to %d printable ASCII characters", key, quote(text), shareKeyMax)
	}
	return text, nil
}

func parseNamespaces(key, text string) ([]string, *snapshot.Refusal) {
	names := strings.Split(text, ",")
	for i, n := range names {
		names[i] = strings.TrimSpace(n)
		if !isName(names[i], 63, "") {
			return nil, refuse(InvalidRequest, "%s: %s cannot be the name of a namespace", key, quote(n))
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func parseForwarding(key, text string) (snapshot.Forwarding, *snapshot.Refusal) {
	f, ok := snapshot.ParseForwarding(text)
	if !ok {
		return "", refuse(InvalidRequest, "%s: %s is neither %s nor %s", key, quote(text), snapshot.Direct, snapshot.Masquerade)
	}
	return f, nil
}

func parseBool(key, text string) (bool, *snapshot.Refusal) {
	value, ok := snapshot.ParseBool(text)
	if !ok {
		return false, refuse(InvalidRequest, "%s: %s is neither true nor false", key, quote(text))
	}
	return value, nil
}

// isName reports whether text can be the name of a Kubernetes object: lower case
// letters, digits, dashes and what also allows, no more than limit.
func isName(text string, limit int, also string) bool {
	if text == "" || len(text) > limit {
		return false
	}
	for _, r := range text {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && !strings.ContainsRune(also, r) {
			return false
		}
	}
	return true
}

// quoteMax bounds how much of a user's text a message repeats.
const quoteMax = 64

func quote(text string) string {
	if len(text) > quoteMax {
		return fmt.Sprintf("%q...", text[:quoteMax])
	}
	return fmt.Sprintf("%q", text)
}

func refuse(reason snapshot.Reason, format string, args ...any) *snapshot.Refusal {
	return &snapshot.Refusal{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

func join(addrs []netip.Addr) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	return strings.Join(texts, ",")
}
