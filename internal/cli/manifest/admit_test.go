package manifest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// kind checks the objects of one kind as the API server does.
type kind struct {
	structural *schema.Structural
	schema     validation.SchemaValidator
	rules      *cel.Validator
}

// kinds reads the definitions of fairlead's kinds.
func kinds() (map[string]*kind, error) {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	files, err := filepath.Glob("../../../charts/fairlead/files/crds/*.yaml")
	if err != nil {
		return nil, err
	}
	out := map[string]*kind{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var v1 apiextensionsv1.CustomResourceDefinition
		if err := yaml.Unmarshal(data, &v1); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		var crd apiextensions.CustomResourceDefinition
		if err := scheme.Convert(&v1, &crd, nil); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if out[crd.Spec.Names.Kind], err = newKind(&crd); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	return out, nil
}

func newKind(crd *apiextensions.CustomResourceDefinition) (*kind, error) {
	version, err := apiextensions.GetSchemaForVersion(crd, v1alpha1.Version)
	if err != nil {
		return nil, err
	}
	k := &kind{}
	if k.structural, err = schema.NewStructural(version.OpenAPIV3Schema); err != nil {
		return nil, err
	}
	if k.schema, _, err = validation.NewSchemaValidator(version.OpenAPIV3Schema); err != nil {
		return nil, err
	}
	k.rules = cel.NewValidator(k.structural, true, celconfig.PerCallLimit)
	return k, nil
}

// admit fills in the defaults of obj and returns what the API server would refuse.
func (k *kind) admit(obj map[string]any) field.ErrorList {
	var errs field.ErrorList
	opts := schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}
	for _, path := range pruning.PruneWithOptions(obj, k.structural, true, opts) {
		errs = append(errs, field.Forbidden(field.NewPath(path), "there is no such field"))
	}
	defaulting.Default(obj, k.structural)
	errs = append(errs, validation.ValidateCustomResource(nil, obj, k.schema)...)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, k.structural, obj)...)
	if len(errs) > 0 {
		return errs // the rules expect what the schema says
	}
	found, _ := k.rules.Validate(context.Background(), nil, k.structural, obj, nil, celconfig.RuntimeCELCostBudget)
	return found
}

// TestLikeTheAPIServer compares what Load refuses with what the schema and the rules of
// the shipped definitions refuse. The libraries for these would make the program
// 7 MB larger, on every node, so the rules are written again, and held to them here.
func TestLikeTheAPIServer(t *testing.T) {
	all, err := kinds()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ kind, spec string }{
		{"AddressPool", `{addresses: [192.0.2.0/24, "2001:db8::1", 192.0.2.1 - 192.0.2.9]}`},
		{"AddressPool", `{addresses: []}`},
		{"AddressPool", `{addresses: [192.0.2.300]}`},
		{"AddressPool", `{addresses: [192.0.2.1/24]}`},
		{"AddressPool", `{addresses: [192.0.2.9-192.0.2.1]}`},
		{"AddressPool", `{addresses: [192.0.2.0/24, 192.0.2.0/24]}`},
		{"AddressPool", `{addresses: [192.0.2.0/24], automatic: true}`},
		{"AddressPool", `{addresses: [192.0.2.0/24], exclude: [192.0.2.1], maxPerNamespace: 2, coolDown: 10m}`},
		{"AddressPool", `{addresses: [192.0.2.0/24], exclude: [abc]}`},
		{"AddressPool", `{addresses: [192.0.2.0/24], maxPerNamespace: 0}`},
		{"AddressPool", `{addresses: [192.0.2.0/24], reservations: [{address: 192.0.2.1, namespace: shop, name: web}, {address: "2001:db8::1", namespace: shop, name: web}]}`},
		{"AddressPool", `{addresses: [192.0.2.0/24], reservations: [{address: 192.0.2.1, namespace: shop, name: ""}]}`},
		{"AddressPool", `{addresses: [192.0.2.0/24], reservations: [{address: 192.0.2.0/24, namespace: shop, name: web}]}`},
		{"AddressPool", `{addresses: [192.0.2.0/24], coolDown: 25h}`},
		{"AddressPool", `{addresses: [192.0.2.0/24], priority: -1}`},
		{"AddressPool", `{addresses: 192.0.2.0/24}`},
		{"Announcement", `{l2: {}}`},
		{"Announcement", `{bgp: {}}`},
		{"Announcement", `{}`},
		{"Announcement", `{l2: {}, bgp: {}}`},
		{"Announcement", `{bgp: {aggregationLength: 33}}`},
		{"Announcement", `{bgp: {localPref: -1}}`},
		{"Announcement", `{l2: {}, preferredNodes: [{selector: {}, weight: 101}]}`},
		{"BGPPeer", `{address: 192.0.2.1, peerASN: 64496, localASN: 64497}`},
		{"BGPPeer", `{address: 10.0.0.999, peerASN: 64496, localASN: 64497}`},
		{"BGPPeer", `{address: 192.0.2.1, peerASN: 0, localASN: 64497}`},
		{"BGPPeer", `{address: 192.0.2.1, peerASN: 64496, localASN: 4294967296}`},
		{"BGPPeer", `{address: 192.0.2.1, peerASN: 64496, localASN: 64496, ebgpMultihop: 2}`},
		{"BGPPeer", `{address: 192.0.2.1, peerASN: 64496, localASN: 64497, ebgpMultihop: 2, ttlSecurity: 1}`},
		{"BGPPeer", `{address: 192.0.2.1, peerASN: 64496, localASN: 64497, ebgpMultihop: 1}`},
		{"BGPPeer", `{address: 192.0.2.1, peerASN: 64496, localASN: 64497, ttlSecurity: 255}`},
		{"BGPPeer", `{address: 192.0.2.1, peerASN: 64496, localASN: 64497, port: 65536}`},
		{"BGPPeer", `{address: 192.0.2.1, peerASN: 64496, localASN: 64497, holdTime: 1s}`},
		{"BGPPeer", `{address: 192.0.2.1, peerASN: 64496, localASN: 64497, holdTime: 9s, keepaliveTime: 9s}`},
	} {
		t.Run(tc.kind+" "+tc.spec, func(t *testing.T) {
			text := "apiVersion: fairlead.io/v1alpha1\nkind: " + tc.kind + "\nmetadata: {name: x}\nspec: " + tc.spec + "\n"
			var obj map[string]any
			data, err := yaml.YAMLToJSON([]byte(text))
			if err == nil {
				err = utiljson.Unmarshal(data, &obj)
			}
			if err != nil {
				t.Fatal(err)
			}
			want := all[tc.kind].admit(obj)
			file := filepath.Join(t.TempDir(), "x.yaml")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := Load([]string{file}, nil, "default")
			if err != nil {
				t.Fatal(err)
			}
			if (len(want) > 0) != (len(got.Problems) > 0) {
				t.Errorf("the API server says %v, Load says %v", want, got.Problems)
			}
		})
	}
}

// TestKinds holds the kinds that Load names to those of the definitions.
func TestKinds(t *testing.T) {
	all, err := kinds()
	if err != nil {
		t.Fatal(err)
	}
	for name := range all {
		if !slices.Contains(ownKinds, name) {
			t.Errorf("Load does not know %s", name)
		}
	}
}
