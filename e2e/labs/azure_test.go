package labs

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"sigs.k8s.io/yaml"
)

const azureFolder = "../../labs/azure"

// What each kind of resource must be given, what it may be given besides, and what
// others may ask of it, as far as the folder uses them: hashicorp/azurerm 4, random 3.
var kinds = map[string]struct{ needs, may, tells string }{
	"azurerm_linux_virtual_machine":                     {"name location resource_group_name size network_interface_ids admin_username os_disk source_image_reference", "computer_name custom_data disable_password_authentication admin_ssh_key boot_diagnostics", "id"},
	"azurerm_nat_gateway":                               {"name location resource_group_name", "sku_name", "id"},
	"azurerm_nat_gateway_public_ip_association":         {"nat_gateway_id public_ip_address_id", "", "id"},
	"azurerm_network_interface":                         {"name location resource_group_name ip_configuration", "ip_forwarding_enabled", "id"},
	"azurerm_network_security_group":                    {"name location resource_group_name", "security_rule", "id"},
	"azurerm_public_ip":                                 {"name location resource_group_name allocation_method", "sku", "id ip_address"},
	"azurerm_resource_group":                            {"name location", "", "id name location"},
	"azurerm_route_server":                              {"name location resource_group_name sku public_ip_address_id subnet_id", "branch_to_branch_traffic_enabled", "id virtual_router_ips"},
	"azurerm_route_server_bgp_connection":               {"name route_server_id peer_asn peer_ip", "", "id"},
	"azurerm_route_table":                               {"name location resource_group_name", "route", "id"},
	"azurerm_subnet":                                    {"name resource_group_name virtual_network_name address_prefixes", "", "id name"},
	"azurerm_subnet_nat_gateway_association":            {"subnet_id nat_gateway_id", "", "id"},
	"azurerm_subnet_network_security_group_association": {"subnet_id network_security_group_id", "", "id"},
	"azurerm_subnet_route_table_association":            {"subnet_id route_table_id", "", "id"},
	"azurerm_virtual_network":                           {"name location resource_group_name address_space", "", "id name"},
	"random_password":                                   {"length", "upper special", "result"},
	"random_string":                                     {"length", "upper special", "result"},
}

// TestAzureReferences: without the provider's own check, which needs its schema from
// the registry, every argument is one that the kind of resource has, every reference
// leads to something that is there, in the way it has to be asked for, and nothing is
// there for nobody.
func TestAzureReferences(t *testing.T) {
	tf := readTerraform(t, azureFolder)
	used := map[string]bool{}
	for address, b := range tf.resources {
		tf.arguments(address, b)
		tf.references(address, b.Body, b, used)
	}
	for name, b := range tf.outputs {
		tf.references("output."+name, b.Body, b, used)
	}
	for name, expr := range tf.locals {
		tf.expression("local."+name, expr, nil, nil, used)
	}
	for name := range tf.variables {
		if !used["var."+name] {
			t.Errorf("nobody uses var.%s", name)
		}
	}
	for name := range tf.locals {
		if !used["local."+name] {
			t.Errorf("nobody uses local.%s", name)
		}
	}
}

// arguments checks the names of a resource's arguments.
func (tf *terraform) arguments(address string, b *hclsyntax.Block) {
	tf.t.Helper()
	kind, ok := kinds[b.Labels[0]]
	if !ok {
		tf.t.Errorf("%s: a kind that the test does not know", address)
		return
	}
	has := slices.Collect(maps.Keys(b.Body.Attributes))
	for _, inner := range b.Body.Blocks {
		if inner.Type == "dynamic" {
			has = append(has, inner.Labels[0])
		} else {
			has = append(has, inner.Type)
		}
	}
	for _, need := range strings.Fields(kind.needs) {
		if !slices.Contains(has, need) {
			tf.t.Errorf("%s lacks %s", address, need)
		}
	}
	known := strings.Fields(kind.needs + " " + kind.may + " for_each count depends_on")
	for _, h := range has {
		if !slices.Contains(known, h) {
			tf.t.Errorf("%s: no argument %s is known", address, h)
		}
	}
}

// references checks every expression of a body, and of the blocks in it.
func (tf *terraform) references(at string, body *hclsyntax.Body, resource *hclsyntax.Block, used map[string]bool, iterators ...string) {
	for name, a := range body.Attributes {
		tf.expression(at+"."+name, a.Expr, resource, iterators, used)
	}
	for _, inner := range body.Blocks {
		more := iterators
		if inner.Type == "dynamic" {
			more = append(slices.Clone(iterators), inner.Labels[0])
		}
		tf.references(at+"."+inner.Type, inner.Body, resource, used, more...)
	}
}

func (tf *terraform) expression(at string, expr hclsyntax.Expression, resource *hclsyntax.Block, iterators []string, used map[string]bool) {
	for _, r := range expr.Variables() {
		root, name := r.RootName(), second(r)
		used[root+"."+name] = true
		switch {
		case root == "var" && tf.variables[name] != nil, root == "local" && tf.locals[name] != nil, root == "path" && name == "module", slices.Contains(iterators, root):
		case root == "each" && resource != nil && resource.Body.Attributes["for_each"] != nil && (name == "key" || name == "value"):
		case tf.resources[root+"."+name] != nil:
			tf.asked(at, r, tf.resources[root+"."+name])
		default:
			tf.t.Errorf("%s: nothing is %s.%s", at, root, name)
		}
	}
}

// asked checks how another resource is asked for: with an index if there are several,
// and for something that it has.
func (tf *terraform) asked(at string, r hcl.Traversal, other *hclsyntax.Block) {
	rest := r[2:]
	many := other.Body.Attributes["count"] != nil || other.Body.Attributes["for_each"] != nil
	if len(rest) == 0 { // depends_on, or an index that is itself an expression
		return
	}
	_, indexed := rest[0].(hcl.TraverseIndex)
	if indexed != many {
		tf.t.Errorf("%s: there are several %s.%s: %v; the index: %v", at, other.Labels[0], other.Labels[1], many, indexed)
		return
	}
	if indexed {
		rest = rest[1:]
	}
	if len(rest) > 0 {
		if a, ok := rest[0].(hcl.TraverseAttr); !ok || !slices.Contains(strings.Fields(kinds[other.Labels[0]].tells), a.Name) {
			tf.t.Errorf("%s: %s does not tell %v", at, other.Labels[0], rest[0])
		}
	}
}

// known are values that Azure and the random provider give.
func known(overlay bool) map[string]cty.Value {
	result := func(s string) cty.Value { return cty.ObjectVal(map[string]cty.Value{"result": cty.StringVal(s)}) }
	servers := cty.EmptyTupleVal
	if !overlay {
		servers = cty.TupleVal([]cty.Value{cty.ObjectVal(map[string]cty.Value{"virtual_router_ips": cty.ListVal([]cty.Value{cty.StringVal("198.18.2.4"), cty.StringVal("198.18.2.5")})})})
	}
	return map[string]cty.Value{
		"random_string":        cty.ObjectVal(map[string]cty.Value{"token_id": result("abcdef")}),
		"random_password":      cty.ObjectVal(map[string]cty.Value{"token_secret": result("0123456789abcdef")}),
		"azurerm_route_server": cty.ObjectVal(map[string]cty.Value{"lab": servers}),
	}
}

// variant evaluates the folder for a variant, in addresses that nothing real has.
func variant(t *testing.T, name string) *hcl.EvalContext {
	t.Helper()
	set := map[string]cty.Value{"variant": cty.StringVal(name)}
	for key, cidr := range map[string]string{"vnet_cidr": "198.18.0.0/16", "overlay_cidr": "198.18.61.0/24", "routed_cidr": "198.18.62.0/24", "pods_cidr": "198.19.0.0/16"} {
		set[key] = cty.StringVal(cidr)
	}
	return readTerraform(t, azureFolder).evaluate(set, known(strings.HasPrefix(name, "overlay")))
}

// value reads something from an evaluated folder.
func value(t *testing.T, context *hcl.EvalContext, expression string) cty.Value {
	t.Helper()
	expr, problems := hclsyntax.ParseExpression([]byte(expression), "", hcl.InitialPos)
	if problems.HasErrors() {
		t.Fatal(problems)
	}
	v, problems := expr.Value(context)
	if problems.HasErrors() {
		t.Fatal(problems)
	}
	return v
}

// TestAzureSafety: every card that forwards may; nobody reaches anything by SSH unless
// he was named, and not everybody can be.
func TestAzureSafety(t *testing.T) {
	tf := readTerraform(t, azureFolder)
	context := tf.evaluate(nil, known(true))
	for _, name := range slices.Sorted(maps.Keys(value(t, context, "local.underlay").AsValueMap())) {
		context.Variables["each"] = cty.ObjectVal(map[string]cty.Value{"key": cty.StringVal(name)})
		forwards := tf.resources["azurerm_network_interface.machine"].Body.Attributes["ip_forwarding_enabled"]
		if forwards == nil {
			t.Fatal("no card says whether it forwards")
		}
		v, problems := forwards.Expr.Value(context)
		tf.ok(problems)
		if v.True() != (name != "client") {
			t.Errorf("IP forwarding of %s: %v", name, v.True())
		}
	}
	count, problems := tf.resources["azurerm_public_ip.ssh"].Body.Attributes["count"].Expr.Value(context)
	tf.ok(problems)
	if !count.RawEquals(cty.Zero) {
		t.Error("the router has a public address by default")
	}
	for _, rule := range tf.resources["azurerm_network_security_group.lab"].Body.Blocks {
		body := rule.Body
		if rule.Type == "dynamic" {
			v, problems := body.Attributes["for_each"].Expr.Value(context)
			tf.ok(problems)
			if v.LengthInt() != 0 {
				t.Error("somebody may by SSH by default")
			}
			continue
		}
		source := body.Attributes["source_address_prefix"]
		if source == nil {
			source = body.Attributes["source_address_prefixes"]
		}
		v, problems := source.Expr.Value(context)
		tf.ok(problems)
		if text := v.GoString(); strings.Contains(text, "*") || strings.Contains(text, "0.0.0.0") || strings.Contains(text, "Internet") {
			t.Errorf("a rule for everybody: %s", text)
		}
	}
	condition := tf.variables["ssh_from"].Body.Blocks[0].Body.Attributes["condition"].Expr
	for from, fine := range map[string]bool{"198.51.100.7/32": true, "10.0.0.0/8": true, "0.0.0.0/0": false, "0.0.0.0/1": false, "Internet": false, "*": false} {
		context := tf.evaluate(map[string]cty.Value{"ssh_from": cty.ListVal([]cty.Value{cty.StringVal(from)})}, known(true))
		v, _ := condition.Value(context)
		if got := v.IsKnown() && !v.IsNull() && v.True(); got != fine {
			t.Errorf("ssh_from %s: accepted %v", from, got)
		}
	}
}

// cloudInit is what a machine is told to do at its first start.
type cloudInit struct {
	WriteFiles []struct{ Path, Permissions, Content string } `json:"write_files"`
	Runcmd     [][]string
}

// azure are the machines of a variant, and what the fabric is told.
func azure(t *testing.T, name string) (machines []machine, routes map[string]string) {
	t.Helper()
	context := variant(t, name)
	texts := value(t, context, "local.cloud_init").AsValueMap()
	underlay := value(t, context, "local.underlay").AsValueMap()
	for _, machineName := range slices.Sorted(maps.Keys(texts)) {
		text := texts[machineName].AsString()
		if !strings.HasPrefix(text, "#cloud-config\n") {
			t.Errorf("%s: %.40q is no cloud-config", machineName, text)
		}
		if len(text) > 64<<10 {
			t.Errorf("%s: Azure takes 64 KiB, this is %d", machineName, len(text))
		}
		var init cloudInit
		must(t, yaml.UnmarshalStrict([]byte(text), &init))
		address := underlay[machineName].AsString()
		m := machine{name: machineName, cards: []card{{"fabric", address + "/24"}}, files: map[string]string{}}
		for _, f := range init.WriteFiles {
			m.files[f.Path] = f.Content
			switch {
			case f.Path == "/etc/fairlead-lab.env":
				m.setting = settings(t, f.Content)
				if f.Permissions != "0600" {
					t.Errorf("%s: the join token is readable: %s", machineName, f.Permissions)
				}
			case filepath.Ext(f.Path) == ".service":
				for line := range strings.Lines(f.Content) {
					if script, ok := strings.CutPrefix(line, "ExecStart="); ok {
						m.runs = append(m.runs, strings.TrimSpace(script))
					}
				}
			}
		}
		for _, command := range init.Runcmd {
			if command[0] != "systemctl" { // which starts the unit
				m.runs = append(m.runs, strings.Join(command, " "))
			}
		}
		for _, script := range m.runs {
			if m.files[script] == "" {
				t.Errorf("%s runs %s, which it has not", machineName, script)
			}
		}
		machines = append(machines, m)
	}
	return machines, routesOf(t, context)
}

// routesOf are the routes of routes.tf, as the fabric has them.
func routesOf(t *testing.T, context *hcl.EvalContext) map[string]string {
	t.Helper()
	tf, out := readTerraform(t, azureFolder), map[string]string{}
	for _, table := range []string{"clients", "machines"} {
		for _, dynamic := range tf.resources["azurerm_route_table."+table].Body.Blocks {
			each, problems := dynamic.Body.Attributes["for_each"].Expr.Value(context)
			tf.ok(problems)
			for it := each.ElementIterator(); it.Next(); {
				k, v := it.Element()
				context.Variables["route"] = cty.ObjectVal(map[string]cty.Value{"key": k, "value": v})
				got := map[string]string{}
				for _, name := range []string{"address_prefix", "next_hop_in_ip_address"} {
					v, problems := dynamic.Body.Blocks[0].Body.Attributes[name].Expr.Value(context)
					tf.ok(problems)
					got[name] = v.AsString()
				}
				out[got["address_prefix"]] = got["next_hop_in_ip_address"]
			}
		}
	}
	return out
}

// TestAzureMachines: what each machine of each variant is told can be told, and is what
// labs/scripts has.
func TestAzureMachines(t *testing.T) {
	for _, name := range []string{"overlay-l2", "overlay-bgp", "route-server"} {
		t.Run(name, func(t *testing.T) {
			machines, routes := azure(t, name)
			var names []string
			for _, m := range machines {
				names = append(names, m.name)
			}
			if want := []string{"client", "node1", "node2", "node3", "router"}; !slices.Equal(names, want) {
				t.Errorf("the machines are %v, want %v", names, want)
			}
			if want := map[string]int{"overlay-l2": 1, "overlay-bgp": 2, "route-server": 3}[name]; len(routes) != want {
				t.Errorf("the fabric has the routes %v, want %d", routes, want)
			}
		})
	}
}
