package v1alpha1

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/version"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	"sigs.k8s.io/yaml"
)

const crdDir = "../../charts/fairlead/files/crds"

// loadCRDs returns the generated CRDs by kind, in the form that the API server
// validates.
func loadCRDs(t testing.TB) map[string]*apiextensions.CustomResourceDefinition {
	t.Helper()
	scheme := runtime.NewScheme()
	install.Install(scheme)
	files, err := filepath.Glob(filepath.Join(crdDir, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no CRDs in %s (%v): run make generate", crdDir, err)
	}
	crds := map[string]*apiextensions.CustomResourceDefinition{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var v1 apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(data, &v1); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		apiextensionsv1.SetObjectDefaults_CustomResourceDefinition(&v1)
		var crd apiextensions.CustomResourceDefinition
		if err := scheme.Convert(&v1, &crd, nil); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		crd.Status.StoredVersions = []string{Version}
		crds[crd.Spec.Names.Kind] = &crd
	}
	return crds
}

func structural(t testing.TB, crd *apiextensions.CustomResourceDefinition) (*schema.Structural, *apiextensions.JSONSchemaProps) {
	t.Helper()
	v, err := apiextensions.GetSchemaForVersion(crd, Version)
	if err != nil {
		t.Fatal(err)
	}
	s, err := schema.NewStructural(v.OpenAPIV3Schema)
	if err != nil {
		t.Fatalf("%s is not structural: %v", crd.Name, err)
	}
	return s, v.OpenAPIV3Schema
}

// TestCRDs runs the API server's own validation: structural schemas, defaults,
// list keys, and that every CEL rule compiles within its cost limit.
func TestCRDs(t *testing.T) {
	crds := loadCRDs(t)
	want := []string{"Address", "AddressPool", "Announcement", "BGPPeer", "NodeState"}
	if got := slices.Sorted(maps.Keys(crds)); !slices.Equal(got, want) {
		t.Errorf("CRDs of %v, want %v", got, want)
	}
	for kind, crd := range crds {
		for _, err := range crdvalidation.ValidateCustomResourceDefinition(context.Background(), crd) {
			t.Errorf("%s: %v", kind, err)
		}
		if crd.Spec.Group != Group || crd.Spec.Scope != apiextensions.ClusterScoped {
			t.Errorf("%s is in group %s with scope %s", kind, crd.Spec.Group, crd.Spec.Scope)
		}
	}
}

// TestRulesOfOldKubernetes compiles every rule in the CEL environments of the
// oldest release that the chart admits and of 1.29, whose libraries lack ip()
// and cidr().
func TestRulesOfOldKubernetes(t *testing.T) {
	for _, minor := range []uint{27, 29} {
		env := environment.MustBaseEnvSet(version.MajorMinor(1, minor))
		for kind, crd := range loadCRDs(t) {
			s, _ := structural(t, crd)
			rules := 0
			compileAll(t, kind, s, model.SchemaDeclType(s, true), env, &rules)
			if kind != "NodeState" && rules == 0 {
				t.Errorf("%s: no rule was compiled", kind)
			}
		}
	}
}

func compileAll(t *testing.T, path string, s *schema.Structural, decl *apiservercel.DeclType, env *environment.EnvSet, rules *int) {
	t.Helper()
	if decl == nil {
		return
	}
	results, err := cel.Compile(s, decl, celconfig.PerCallLimit, env, cel.NewExpressionsEnvLoader())
	if err != nil {
		t.Errorf("%s: %v", path, err)
	}
	for i, r := range results {
		*rules++
		if r.Error != nil {
			t.Errorf("%s rule %d: %v", path, i, r.Error)
		}
	}
	if s.Items != nil {
		compileAll(t, path+"[]", s.Items, decl.ElemType, env, rules)
	}
	for name, p := range s.Properties {
		if f, ok := decl.Fields[name]; ok {
			compileAll(t, path+"."+name, &p, f.Type, env, rules)
		}
	}
}

// An admitter does to an object what the API server does on create and update.
type admitter struct {
	structural *schema.Structural
	schema     validation.SchemaValidator
	rules      *cel.Validator
}

func newAdmitter(t testing.TB, crd *apiextensions.CustomResourceDefinition) admitter {
	t.Helper()
	s, props := structural(t, crd)
	v, _, err := validation.NewSchemaValidator(props)
	if err != nil {
		t.Fatal(err)
	}
	return admitter{s, v, cel.NewValidator(s, true, celconfig.PerCallLimit)}
}

// admit defaults obj and returns what is wrong with it; old is nil on create.
func (a admitter) admit(obj, old map[string]any) (errs field.ErrorList) {
	for _, path := range pruning.PruneWithOptions(obj, a.structural, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}) {
		errs = append(errs, field.Invalid(field.NewPath(path), nil, "unknown field"))
	}
	defaulting.Default(obj, a.structural)
	if old == nil {
		errs = append(errs, validation.ValidateCustomResource(nil, obj, a.schema)...)
	} else {
		errs = append(errs, validation.ValidateCustomResourceUpdate(nil, obj, old, a.schema)...)
	}
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, a.structural, obj)...)
	var oldAny any
	if old != nil {
		oldAny = old
	}
	ruleErrs, _ := a.rules.Validate(context.Background(), nil, a.structural, obj, oldAny, celconfig.RuntimeCELCostBudget)
	return append(errs, ruleErrs...)
}

func object(t testing.TB, kind, name, body string) map[string]any {
	t.Helper()
	obj := map[string]any{}
	data, err := yaml.YAMLToJSON([]byte(body))
	if err == nil {
		err = utiljson.Unmarshal(data, &obj) // integers as int64, as in the API server
	}
	if err != nil {
		t.Fatalf("%v in:\n%s", err, body)
	}
	obj["apiVersion"], obj["kind"] = GroupVersion.String(), kind
	obj["metadata"] = map[string]any{"name": name}
	return obj
}

// TestAdmission says for each kind what the API server takes and what it
// refuses, with the words that it refuses it with.
func TestAdmission(t *testing.T) {
	tests := []struct {
		kind, name, body string
		refused          string // part of the message; "" if taken
	}{
		{"AddressPool", "lan", `spec: {addresses: [192.0.2.0/25, 192.0.2.200-192.0.2.220, "2001:db8::/112", "2001:db8::1:0-2001:db8::1:ff"]}`, ""},
		{"AddressPool", "all", `spec: {addresses: [192.0.2.7/32], autoAssign: false, avoidBuggyIPs: true, disabled: true, priority: 3, namespaces: [a], namespaceSelector: {matchLabels: {a: b}}, serviceSelector: {matchExpressions: [{key: a, operator: Exists}]}}`, ""},
		{"AddressPool", "status", `{spec: {addresses: [192.0.2.7/32]}, status: {observedGeneration: 1, ipv4: {total: 1, assigned: 0, free: 1}, ipv6: {total: 0, assigned: 0, free: 9223372036854775807}}}`, ""},
		{"AddressPool", "single", `spec: {addresses: [192.0.2.7, "2001:db8::1", 192.0.2.9 - 192.0.2.12, "2001:db8::5 -2001:db8::6"]}`, ""},
		{"AddressPool", "reversed", `spec: {addresses: [192.0.2.12 - 192.0.2.9]}`, "ends before it begins"},
		{"AddressPool", "no-address", `spec: {addresses: [192.0.2.300]}`, "not an IPv4 address, CIDR or range"},
		{"AddressPool", "no-address-6", `spec: {addresses: ["2001:db8"]}`, "not an IPv6 address, CIDR or range"},
		{"AddressPool", "word", `spec: {addresses: [abc]}`, "not an address such as"},
		{"AddressPool", "exclude", `spec: {addresses: [192.0.2.0/24], exclude: [192.0.2.1, 192.0.2.9 - 192.0.2.12, "2001:db8::/64"], maxPerNamespace: 3, coolDown: 10m}`, ""},
		{"AddressPool", "bad-exclude", `spec: {addresses: [192.0.2.0/24], exclude: [192.0.2.300]}`, "does not begin with an IPv4 or IPv6 address"},
		{"AddressPool", "reserved", `spec: {addresses: [192.0.2.0/24], reservations: [{address: 192.0.2.1, namespace: shop, name: web}]}`, ""},
		{"AddressPool", "reserved-twice", `spec: {addresses: [192.0.2.0/24], reservations: [{address: 192.0.2.1, namespace: a, name: a}, {address: 192.0.2.1, namespace: b, name: b}]}`, "Duplicate"},
		{"AddressPool", "no-limit", `spec: {addresses: [192.0.2.0/24], maxPerNamespace: 0}`, "greater than or equal to 1"},
		{"AddressPool", "long-cool-down", `spec: {addresses: [192.0.2.0/24], coolDown: 25h}`, "coolDown must be at most 24h"},
		{"Address", "192.0.2.7", `spec: {address: 192.0.2.7, pool: lan, freed: {namespace: a, at: "2026-11-21T10:00:00Z"}}`, ""},
		{"AddressPool", "nodes", `spec: {nodeAddresses: {nodeSelector: {matchLabels: {a: b}}}, autoAssign: false, serviceSelector: {matchLabels: {a: b}}}`, ""},
		{"AddressPool", "all-nodes", `spec: {nodeAddresses: {}}`, ""},
		{"AddressPool", "neither", `spec: {autoAssign: false}`, "either addresses, fromPrefix or both"},
		{"AddressPool", "dhcp", `{spec: {fromDHCP: {interface: eth0, families: [IPv4, IPv6], servers: [192.0.2.1, "fe80::1"], subnets: [192.0.2.0/24], nodeSelector: {matchLabels: {a: b}}}, maxPerNamespace: 3}, status: {leases: [{namespace: ns, name: a, family: IPv4, client: u, address: 192.0.2.5, server: 192.0.2.1, until: "2026-11-21T10:00:00Z"}, {namespace: ns, name: a, family: IPv6, client: u, message: m}]}}`, ""},
		{"AddressPool", "dhcp-least", `spec: {fromDHCP: {interface: eth0}}`, ""},
		{"AddressPool", "dhcp-no-link", `spec: {fromDHCP: {families: [IPv4]}}`, "interface: Required"},
		{"AddressPool", "dhcp-family", `spec: {fromDHCP: {interface: eth0, families: [IPX]}}`, "supported values"},
		{"AddressPool", "dhcp-server", `spec: {fromDHCP: {interface: eth0, servers: [router]}}`, "should match"},
		{"AddressPool", "dhcp-beside", `spec: {addresses: [192.0.2.0/24], fromDHCP: {interface: eth0}}`, "or nodeAddresses, or fromDHCP"},
		{"AddressPool", "dhcp-nodes", `spec: {nodeAddresses: {}, fromDHCP: {interface: eth0}}`, "or nodeAddresses, or fromDHCP"},
		{"AddressPool", "dhcp-exclude", `spec: {fromDHCP: {interface: eth0}, exclude: [192.0.2.1]}`, "the DHCP server chooses"},
		{"AddressPool", "prefix", `spec: {fromPrefix: {interface: eth0, host: "::10-::ff", scope: UniqueLocal, grace: 168h, nodeSelector: {matchLabels: {a: b}}}}`, ""},
		{"AddressPool", "prefix-beside", `{spec: {addresses: [192.0.2.0/24], fromPrefix: {interface: eth0.5, host: "::1:2:3:4"}}, status: {prefixes: [{prefix: "2001:db8:1::/64", state: Leaving, since: "2026-11-21T10:00:00Z", until: "2026-11-21T11:00:00Z"}]}}`, ""},
		{"AddressPool", "prefix-nodes", `spec: {nodeAddresses: {}, fromPrefix: {interface: eth0, host: "::10"}}`, "either addresses, fromPrefix or both"},
		{"AddressPool", "prefix-long-host", `spec: {fromPrefix: {interface: eth0, host: "2001:db8::10"}}`, "should match"},
		{"AddressPool", "prefix-no-link", `spec: {fromPrefix: {host: "::10"}}`, "interface: Required"},
		{"AddressPool", "prefix-scope", `spec: {fromPrefix: {interface: eth0, host: "::10", scope: Site}}`, "supported values"},
		{"AddressPool", "prefix-grace", `spec: {fromPrefix: {interface: eth0, host: "::10", grace: 169h}}`, "grace must be at most 168h"},
		{"NodeState", "n1", `status: {prefixes: [{link: eth0, prefix: "2001:db8:1::/64", deprecated: true}, {link: eth0, prefix: "2001:db8:2::/64"}]}`, ""},
		{"NodeState", "n2", `status: {prefixes: [{link: eth0, prefix: "2001:db8:1::/64"}, {link: eth0, prefix: "2001:db8:1::/64"}]}`, "Duplicate"},
		{"AddressPool", "both", `spec: {addresses: [192.0.2.0/24], nodeAddresses: {}}`, "either addresses, fromPrefix or both"},
		{"AddressPool", "nodes-limit", `spec: {nodeAddresses: {}, maxPerNamespace: 3}`, "are for pools with addresses"},
		{"Address", "192.0.2.7", `spec: {address: 192.0.2.7, pool: nodes, node: a, holders: [{namespace: a, name: b, uid: u, pool: nodes}]}`, ""},
		{"AddressPool", "no-spec", `{}`, "spec: Required"},
		{"AddressPool", "empty", `spec: {addresses: []}`, "should have at least 1 items"},
		{"AddressPool", "twice", `spec: {addresses: [192.0.2.0/24, 192.0.2.0/24]}`, "Duplicate value"},
		{"AddressPool", "unknown", `spec: {addresses: [192.0.2.0/24], adresses: []}`, "unknown field"},
		{"AddressPool", "priority", `spec: {addresses: [192.0.2.0/24], priority: -1}`, "greater than or equal to 0"},
		{"AddressPool", "namespaces", `spec: {addresses: [192.0.2.0/24], namespaces: [""]}`, "at least 1 chars"},

		{"Address", "192.0.2.1", `spec: {address: 192.0.2.1, pool: lan, holders: [{namespace: a, name: b, uid: u, ports: [{protocol: TCP, port: 80}, {protocol: UDP, port: 80}]}]}`, ""},
		{"Address", "2001-0db8-0000-0000-0000-0000-0000-0001", `spec: {address: "2001:db8::1", pool: lan}`, ""},
		{"Address", "192.0.2.1", `{spec: {address: 192.0.2.1, pool: lan}, status: {probedAt: "2026-11-21T10:00:00Z", conflict: "02:00:00:00:00:01"}}`, ""},
		{"Address", "192.0.2.2", `spec: {address: 192.0.2.1, pool: lan}`, "the name must be the address"},
		{"Address", "mine", `spec: {address: "2001:db8::1", pool: lan}`, "the name must be the address"},
		{"Address", "192.0.2.1", `spec: {address: 192.0.2.1}`, "pool: Required"},
		{"Address", "192.0.2.1", `spec: {address: 192.0.2.1, pool: lan, holders: [{namespace: a, name: b}]}`, "uid: Required"},
		{"Address", "192.0.2.1", `spec: {address: 192.0.2.1, pool: lan, holders: [{namespace: a, name: b, uid: u}, {namespace: a, name: c, uid: u}]}`, "Duplicate value"},
		{"Address", "192.0.2.1", `spec: {address: 192.0.2.1, pool: lan, holders: [{namespace: a, name: b, uid: u, ports: [{protocol: ICMP, port: 1}]}]}`, "supported values"},
		{"Address", "192.0.2.1", `spec: {address: 192.0.2.1, pool: lan, holders: [{namespace: a, name: b, uid: u, ports: [{protocol: TCP, port: 65536}]}]}`, "less than or equal to 65535"},

		{"Announcement", "l2", `spec: {l2: {}}`, ""},
		{"Announcement", "l2-all", `spec: {poolSelector: {matchLabels: {a: b}}, nodeSelector: {}, serviceSelector: {}, preferredNodes: [{selector: {matchLabels: {rack: a}}, weight: 10}], l2: {interfaces: [eth1, "bond*", eth0.100]}}`, ""},
		{"Announcement", "bgp", `spec: {bgp: {peers: [tor-a], localPref: 200, communities: ["64496:100", no-export], largeCommunities: ["64496:1:4294967295"], aggregationLength: 24, aggregationLengthV6: 64}}`, ""},
		{"Announcement", "stays", `spec: {l2: {}, failback: Never, drainOn: [Shutdown, Cordon]}`, ""},
		{"Announcement", "returns", `spec: {l2: {}, failback: Sometimes}`, "supported values"},
		{"Announcement", "failback-bgp", `spec: {bgp: {}, failback: Never}`, "failback is for l2"},
		{"Announcement", "drains-bgp", `spec: {bgp: {}, drainOn: [Cordon]}`, ""},
		{"Announcement", "drains-never", `spec: {l2: {}, drainOn: []}`, "at least 1 item"},
		{"Announcement", "drains-why", `spec: {l2: {}, drainOn: [Reboot]}`, "supported values"},
		{"Announcement", "drains-twice", `spec: {l2: {}, drainOn: [Cordon, Cordon]}`, "Duplicate value"},
		{"Announcement", "refreshes", `spec: {l2: {refreshInterval: 5m}}`, ""},
		{"Announcement", "refreshes-often", `spec: {l2: {refreshInterval: 9s}}`, "refreshInterval must be from 10s to 24h"},
		{"Announcement", "refreshes-rarely", `spec: {l2: {refreshInterval: 25h}}`, "refreshInterval must be from 10s to 24h"},
		{"Announcement", "refreshes-word", `spec: {l2: {refreshInterval: often}}`, "should match"},
		{"Announcement", "neither", `spec: {}`, "exactly one of l2 and bgp"},
		{"Announcement", "both", `spec: {l2: {}, bgp: {}}`, "exactly one of l2 and bgp"},
		{"Announcement", "space", `spec: {l2: {interfaces: ["eth 1"]}}`, "should match"},
		{"Announcement", "weight", `spec: {l2: {}, preferredNodes: [{selector: {}, weight: 101}]}`, "less than or equal to 100"},
		{"Announcement", "community", `spec: {bgp: {communities: ["64496:65536"]}}`, "must be at most 65535"},
		{"Announcement", "community-word", `spec: {bgp: {communities: [no-such]}}`, "should match"},
		{"Announcement", "large", `spec: {bgp: {largeCommunities: ["64496:1:4294967296"]}}`, "must be at most 4294967295"},
		{"Announcement", "length", `spec: {bgp: {aggregationLength: 33}}`, "less than or equal to 32"},

		{"BGPPeer", "tor", `spec: {address: 192.0.2.1, peerASN: 64496, localASN: 64497}`, ""},
		{"BGPPeer", "tor6", `spec: {address: "2001:db8::1", port: 1179, peerASN: 64496, localASN: 4200000000, nodeSelector: {matchLabels: {rack: a}}, holdTime: 9s, keepaliveTime: 3s, connectTime: 1m30s, passwordSecretRef: {name: tor}, sourceAddress: "2001:db8::2", ebgpMultihop: 4, gracefulRestart: {}, bfd: {receiveInterval: 50ms, transmitInterval: 50ms, detectMultiplier: 3, passive: true}}`, ""},
		{"BGPPeer", "never", `spec: {address: 192.0.2.1, peerASN: 64496, localASN: 64497, holdTime: 0s}`, ""},
		{"BGPPeer", "octet", `spec: {address: 192.0.2.256, peerASN: 64496, localASN: 64497}`, "not an IPv4 or IPv6 address"},
		{"BGPPeer", "zone", `spec: {address: "fe80::1%eth0", localASN: 64497}`, ""},
		{"BGPPeer", "no-zone", `spec: {address: "fe80::1", localASN: 64497}`, "needs the name of its link"},
		{"BGPPeer", "global-zone", `spec: {address: "2001:db8::1%eth0", localASN: 64497}`, "needs the name of its link"},
		{"BGPPeer", "interface", `spec: {interface: eth0.100, localASN: 64497}`, ""},
		{"BGPPeer", "gateway", `spec: {defaultGateway: true, peerASN: 64496, localASN: 64497}`, ""},
		{"BGPPeer", "nowhere", `spec: {defaultGateway: false, localASN: 64497}`, "says where the router is"},
		{"BGPPeer", "twice", `spec: {address: 192.0.2.1, interface: eth0, localASN: 64497}`, "says where the router is"},
		{"BGPPeer", "asn", `spec: {address: 192.0.2.1, peerASN: 0, localASN: 64497}`, "greater than or equal to 1"},
		{"BGPPeer", "hold", `spec: {address: 192.0.2.1, peerASN: 64496, localASN: 64497, holdTime: 2s}`, "holdTime must be 0s, or from 3s"},
		{"BGPPeer", "hold-word", `spec: {address: 192.0.2.1, peerASN: 64496, localASN: 64497, holdTime: long}`, "should match"},
		{"BGPPeer", "ibgp", `spec: {address: 192.0.2.1, peerASN: 64496, localASN: 64496, ebgpMultihop: 2}`, "needs a peer in another AS"},
		{"BGPPeer", "ttl", `spec: {address: 192.0.2.1, peerASN: 64496, localASN: 64496, ttlSecurity: 1}`, ""},
		{"BGPPeer", "ttl-zero", `spec: {address: 192.0.2.1, peerASN: 64496, localASN: 64497, ttlSecurity: 0}`, "greater than or equal to 1"},
		{"BGPPeer", "ttl-hops", `spec: {address: 192.0.2.1, peerASN: 64496, localASN: 64497, ttlSecurity: 2, ebgpMultihop: 2}`, "exclude each other"},
		{"BGPPeer", "keepalive", `spec: {address: 192.0.2.1, peerASN: 64496, localASN: 64497, holdTime: 9s, keepaliveTime: 9s}`, "keepaliveTime must be shorter"},
		{"BGPPeer", "bfd", `spec: {address: 192.0.2.1, peerASN: 64496, localASN: 64497, bfd: {receiveInterval: 1ms}}`, "from 10ms to 60s"},
		{"BGPPeer", "restart", `spec: {address: 192.0.2.1, peerASN: 64496, localASN: 64497, gracefulRestart: {restartTime: 2h}}`, "from 1s to 4095s"},

		{"NodeState", "node-1", `{}`, ""},
		{"NodeState", "node-1", `{spec: {}, status: {renewTime: "2026-11-21T10:00:00.000001Z", agentVersion: v0.1.0, engine: {mode: nftables, inSync: true, services: 3, endpoints: 9}, links: [{name: eth0, mac: "02:00:00:00:00:01", prefixes: [192.0.2.5/24]}], announcesCount: 1, announces: [{address: 192.0.2.10, link: eth0, mac: "02:00:00:00:00:01", service: a/b}], refusedCount: 1, refused: [{address: 192.0.2.11, reason: NoSuitableLink, message: no link}]}}`, ""},
		{"NodeState", "node-1", `status: {announces: [{address: 192.0.2.10, link: eth0}, {address: 192.0.2.10, link: eth1}]}`, ""},
		{"NodeState", "node-1", `status: {refused: [{address: 192.0.2.11, reason: no link}]}`, "should match"},
	}
	crds := loadCRDs(t)
	for _, tt := range tests {
		t.Run(tt.kind+"/"+tt.name, func(t *testing.T) {
			got := newAdmitter(t, crds[tt.kind]).admit(object(t, tt.kind, tt.name, tt.body), nil)
			expect(t, got, tt.refused)
		})
	}
}

func expect(t *testing.T, got field.ErrorList, refused string) {
	t.Helper()
	switch {
	case refused == "" && len(got) > 0:
		t.Errorf("refused: %v", got.ToAggregate())
	case refused != "" && len(got) == 0:
		t.Errorf("taken, want a refusal with %q", refused)
	case refused != "" && !strings.Contains(got.ToAggregate().Error(), refused):
		t.Errorf("refused with %v, want %q", got.ToAggregate(), refused)
	}
}

// TestPoolAddresses tries the rules for one entry of spec.addresses.
func TestPoolAddresses(t *testing.T) {
	const (
		v4, v6 = "not an IPv4", "not an IPv6"
		family = "one family"
		bits   = "bits set beyond"
		order  = "ends before it begins"
		shape  = "should match"
	)
	tests := []struct{ entry, refused string }{
		{"0.0.0.0/0", ""}, {"192.0.2.0/24", ""}, {"192.0.2.128/25", ""}, {"255.255.255.255/32", ""},
		{"192.0.2.1-192.0.2.1", ""}, {"192.0.2.254-192.0.3.1", ""}, {"0.0.0.0-255.255.255.255", ""},
		{"::/0", ""}, {"2001:db8::/32", ""}, {"2001:DB8::1/128", ""}, {"1:2:3:4:5:6:7:8/128", ""},
		{"1:2:3:4:5:6:7::/112", ""}, {"::2:3:4:5:6:7:8-::ff:3:4:5:6:7:8", ""}, {"fe80::1-fe80::2", ""},

		{"192.0.2.1", ""}, {"2001:db8::1", ""}, {"192.0.2.1 - 192.0.2.9", ""}, {"::1- ::2", ""},
		{"garbage", shape}, {"192.0.2.1 192.0.2.9", shape}, {"192.0.2.1-", shape}, {" 192.0.2.1", shape},
		{"192.0.2.0/", shape}, {"192.0.2.0/24/24", shape}, {"fe80::1%eth0/64", shape}, {"lan.example/24", shape},
		{"192.0.2.256/32", v4}, {"192.0.2/24", v4}, {"192.0.2.0.0/24", v4}, {"192.0.02.0/24", v4}, {"192.0.2.0/33", v4},
		{"192.0.2.0/024", v4}, {"192.0.2.1-192.0.2.999", v4}, {"..../24", v4}, {"192.0.2.0-192.0.2", v4}, {"99/24", "not an address such as"},
		{"2001:db8::/129", v6}, {"2001:db8::1::/64", v6}, {"1:2:3:4:5:6:7:8:9/64", v6}, {"1:2:3:4:5:6:7/64", v6},
		{"12345::/64", v6}, {":::/64", v6}, {"2001:db8::1-2001:db8", v6},
		{"192.0.2.1-2001:db8::1", family}, {"::ffff:192.0.2.0/120", family},
		{"192.0.2.1/24", bits}, {"192.0.2.0/22", bits}, {"128.0.0.0/0", bits},
		{"192.0.2.9-192.0.2.1", order}, {"192.0.3.0-192.0.2.255", order}, {"255.0.0.0-1.0.0.0", order},
	}
	a := newAdmitter(t, loadCRDs(t)["AddressPool"])
	for _, tt := range tests {
		t.Run(strings.ReplaceAll(tt.entry, "/", "_"), func(t *testing.T) {
			expect(t, a.admit(object(t, "AddressPool", "lan", `spec: {addresses: ["`+tt.entry+`"]}`), nil), tt.refused)
		})
	}
}

// TestFullPool stays within the API server's budget for one request.
func TestFullPool(t *testing.T) {
	var entries []any
	for i := range 64 {
		entries = append(entries, fmt.Sprintf("198.51.100.%d-198.51.100.255", 100+i))
	}
	obj := object(t, "AddressPool", "full", "{}")
	obj["spec"] = map[string]any{"addresses": entries}
	expect(t, newAdmitter(t, loadCRDs(t)["AddressPool"]).admit(obj, nil), "")
}

// TestPoolAddressesLikeGo compares the rules with what Go parses, for addresses
// made of pieces that are nearly right.
func TestPoolAddressesLikeGo(t *testing.T) {
	a := newAdmitter(t, loadCRDs(t)["AddressPool"])
	random := rand.New(rand.NewPCG(1, 2))
	pieces := []string{"0", "1", "9", "10", "25", "255", "256", "01", "ab", "ffff", "fffff", "", ":", "g"}
	good := 0
	for range 4000 {
		separator, bits := ":", "/128"
		if random.IntN(4) == 0 {
			separator, bits = ".", "/32"
		}
		parts := make([]string, 1+random.IntN(9))
		for i := range parts {
			parts[i] = pieces[random.IntN(len(pieces))]
			if random.IntN(3) > 0 {
				parts[i] = pieces[random.IntN(5)]
			}
		}
		entry := strings.Join(parts, separator) + bits
		_, err := netip.ParsePrefix(entry)
		obj := map[string]any{"spec": map[string]any{"addresses": []any{entry}}}
		got := a.admit(obj, nil)
		if (err == nil) != (len(got) == 0) {
			t.Errorf("%q: Go says %v, the API server %v", entry, err, got.ToAggregate())
		}
		if err == nil {
			good++
		}
	}
	if good < 50 {
		t.Errorf("only %d of the addresses were good", good)
	}
}

// TestDocs: every example in docs/api.md is taken as it is written there.
func TestDocs(t *testing.T) {
	data, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	crds := loadCRDs(t)
	seen := map[string]bool{}
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(data), -1) {
		for doc := range strings.SplitSeq(block[1], "---\n") {
			var head struct {
				Kind     string
				Metadata struct{ Name string }
			}
			if err := yaml.Unmarshal([]byte(doc), &head); err != nil {
				t.Fatal(err)
			}
			crd := crds[head.Kind]
			if crd == nil {
				t.Errorf("no kind %q in:\n%s", head.Kind, doc)
				continue
			}
			seen[head.Kind] = true
			if got := newAdmitter(t, crd).admit(object(t, head.Kind, head.Metadata.Name, doc), nil); len(got) > 0 {
				t.Errorf("%v in:\n%s", got.ToAggregate(), doc)
			}
		}
	}
	if len(seen) != len(crds) {
		t.Errorf("docs/api.md shows %v only", slices.Sorted(maps.Keys(seen)))
	}
}

func TestAddressIsImmutable(t *testing.T) {
	a := newAdmitter(t, loadCRDs(t)["Address"])
	old := object(t, "Address", "192.0.2.1", `spec: {address: 192.0.2.1, pool: lan}`)
	expect(t, a.admit(object(t, "Address", "192.0.2.1", `spec: {address: 192.0.2.1, pool: other}`), old), "")
	expect(t, a.admit(object(t, "Address", "192.0.2.1", `spec: {address: 192.0.2.2, pool: lan}`), old), "never changes its address")
}

func TestDefaults(t *testing.T) {
	crds := loadCRDs(t)
	pool := object(t, "AddressPool", "lan", `spec: {addresses: [192.0.2.0/24]}`)
	newAdmitter(t, crds["AddressPool"]).admit(pool, nil)
	if pool["spec"].(map[string]any)["autoAssign"] != true {
		t.Errorf("autoAssign is not true by default: %v", pool)
	}
	peer := object(t, "BGPPeer", "tor", `spec: {address: 192.0.2.1, peerASN: 64496, localASN: 64497, bfd: {}, gracefulRestart: {}, passwordSecretRef: {name: a}}`)
	newAdmitter(t, crds["BGPPeer"]).admit(peer, nil)
	var typed BGPPeer
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(peer, &typed, true); err != nil {
		t.Fatal(err)
	}
	spec := typed.Spec
	if spec.Port != 179 || spec.HoldTime.Seconds() != 90 || spec.ConnectTime.Seconds() != 10 ||
		spec.BFD.ReceiveInterval.Milliseconds() != 300 || spec.BFD.DetectMultiplier != 3 ||
		spec.GracefulRestart.RestartTime.Seconds() != 120 || spec.PasswordSecretRef.Key != "password" {
		t.Errorf("defaults of a BGPPeer: %+v", spec)
	}
}
