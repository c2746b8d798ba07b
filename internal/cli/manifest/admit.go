package manifest

import (
	"context"
	"fmt"
	"io/fs"

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
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/charts"
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
	files, err := fs.Glob(charts.CRDs, "fairlead/files/crds/*.yaml")
	if err != nil {
		return nil, err
	}
	out := map[string]*kind{}
	for _, file := range files {
		data, err := charts.CRDs.ReadFile(file)
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
