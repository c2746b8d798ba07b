package labs

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// terraform is a folder of Terraform's files, read without the provider: its blocks by
// their addresses, such as var.prefix, local.vips and azurerm_subnet.clients.
type terraform struct {
	t         *testing.T
	folder    string
	variables map[string]*hclsyntax.Block
	locals    map[string]hclsyntax.Expression
	resources map[string]*hclsyntax.Block
	outputs   map[string]*hclsyntax.Block
}

func readTerraform(t *testing.T, folder string) *terraform {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.tf"))
	must(t, err)
	if len(files) == 0 {
		t.Fatalf("no *.tf in %s", folder)
	}
	tf := &terraform{t: t, folder: folder, variables: map[string]*hclsyntax.Block{}, locals: map[string]hclsyntax.Expression{}, resources: map[string]*hclsyntax.Block{}, outputs: map[string]*hclsyntax.Block{}}
	parser := hclparse.NewParser()
	for _, file := range files {
		f, problems := parser.ParseHCLFile(file)
		tf.ok(problems)
		for _, b := range f.Body.(*hclsyntax.Body).Blocks {
			tf.take(b)
		}
	}
	return tf
}

func (tf *terraform) take(b *hclsyntax.Block) {
	tf.t.Helper()
	switch b.Type {
	case "variable":
		tf.variables[b.Labels[0]] = b
	case "output":
		tf.outputs[b.Labels[0]] = b
	case "resource":
		tf.resources[b.Labels[0]+"."+b.Labels[1]] = b
	case "locals":
		for name, a := range b.Body.Attributes {
			tf.locals[name] = a.Expr
		}
	case "terraform", "provider":
	default:
		tf.t.Errorf("%s: a block %q", b.TypeRange, b.Type)
	}
}

func (tf *terraform) ok(problems hcl.Diagnostics) {
	tf.t.Helper()
	if problems.HasErrors() {
		tf.t.Fatal(problems)
	}
}

// evaluate gives the locals their values, with the defaults of variables but for some.
// What only Azure knows comes from known.
func (tf *terraform) evaluate(set map[string]cty.Value, known map[string]cty.Value) *hcl.EvalContext {
	tf.t.Helper()
	variables := map[string]cty.Value{}
	for name, b := range tf.variables {
		value, given := set[name]
		if a := b.Body.Attributes["default"]; !given && a != nil {
			var problems hcl.Diagnostics
			value, problems = a.Expr.Value(nil)
			tf.ok(problems)
			given = true
		}
		if !given {
			value = cty.StringVal("given")
		}
		if hcl.ExprAsKeyword(b.Body.Attributes["type"].Expr) == "" { // list(string) is the only other one
			var err error
			value, err = convert.Convert(value, cty.List(cty.String))
			must(tf.t, err)
		}
		variables[name] = value
	}
	context := &hcl.EvalContext{Functions: tf.functions(), Variables: map[string]cty.Value{
		"var":  cty.ObjectVal(variables),
		"path": cty.ObjectVal(map[string]cty.Value{"module": cty.StringVal(tf.folder)}),
	}}
	maps.Copy(context.Variables, known)
	values := map[string]cty.Value{}
	for len(values) < len(tf.locals) {
		before := len(values)
		for name, expr := range tf.locals {
			if _, done := values[name]; !done && ready(expr, values) {
				context.Variables["local"] = cty.ObjectVal(values)
				v, problems := expr.Value(context)
				tf.ok(problems)
				values[name] = v
			}
		}
		if len(values) == before {
			tf.t.Fatalf("locals that need each other; known are %v", slices.Sorted(maps.Keys(values)))
		}
	}
	context.Variables["local"] = cty.ObjectVal(values)
	return context
}

// ready tells whether all locals that expr asks for have values.
func ready(expr hclsyntax.Expression, values map[string]cty.Value) bool {
	return !slices.ContainsFunc(expr.Variables(), func(t hcl.Traversal) bool {
		_, done := values[second(t)]
		return t.RootName() == "local" && !done
	})
}

// second is the name after the root of a reference.
func second(t hcl.Traversal) string {
	if len(t) > 1 {
		if a, ok := t[1].(hcl.TraverseAttr); ok {
			return a.Name
		}
	}
	return ""
}

// functions are those of Terraform's that the folder uses.
func (tf *terraform) functions() map[string]function.Function {
	text := func(parameters int, f func(args []cty.Value) (string, error)) function.Function {
		var params []function.Parameter
		for range parameters {
			params = append(params, function.Parameter{Type: cty.DynamicPseudoType})
		}
		return function.New(&function.Spec{Params: params, Type: function.StaticReturnType(cty.String), Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			s, err := f(args)
			return cty.StringVal(s), err
		}})
	}
	yes := func(parameters int, f func(args []cty.Value) bool) function.Function {
		var params []function.Parameter
		for range parameters {
			params = append(params, function.Parameter{Type: cty.DynamicPseudoType})
		}
		return function.New(&function.Spec{Params: params, Type: function.StaticReturnType(cty.Bool), Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return cty.BoolVal(f(args)), nil
		}})
	}
	return map[string]function.Function{
		"can": tryfunc.CanFunc, "coalesce": function.New(&function.Spec{
			VarParam: &function.Parameter{Type: cty.String}, Type: function.StaticReturnType(cty.String),
			Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { // Terraform's passes over empty strings
				for _, a := range args {
					if a.AsString() != "" {
						return a, nil
					}
				}
				return cty.NilVal, fmt.Errorf("nothing but empty strings")
			},
		}),
		"concat": stdlib.ConcatFunc, "contains": stdlib.ContainsFunc, "join": stdlib.JoinFunc, "keys": stdlib.KeysFunc,
		"length": stdlib.LengthFunc, "merge": stdlib.MergeFunc, "replace": stdlib.ReplaceFunc, "sort": stdlib.SortFunc, "split": stdlib.SplitFunc,
		"tonumber": stdlib.MakeToFunc(cty.Number), "toset": stdlib.MakeToFunc(cty.Set(cty.DynamicPseudoType)),
		"alltrue": yes(1, func(args []cty.Value) bool {
			return !slices.ContainsFunc(args[0].AsValueSlice(), cty.Value.False)
		}),
		"startswith":   yes(2, func(args []cty.Value) bool { return strings.HasPrefix(args[0].AsString(), args[1].AsString()) }),
		"base64encode": text(1, func(args []cty.Value) (string, error) { return args[0].AsString(), nil }),
		"file": text(1, func(args []cty.Value) (string, error) {
			data, err := os.ReadFile(args[0].AsString())
			return string(data), err
		}),
		"yamlencode": text(1, func(args []cty.Value) (string, error) { // JSON is YAML
			data, err := json.Marshal(ctyjson.SimpleJSONValue{Value: args[0]})
			return string(data), err
		}),
		"cidrhost": text(2, func(args []cty.Value) (string, error) {
			p, err := netip.ParsePrefix(args[0].AsString())
			n, _ := args[1].AsBigFloat().Int64()
			return add(p.Addr(), uint32(n)).String(), err //nolint:gosec // small
		}),
		"cidrsubnet": text(3, func(args []cty.Value) (string, error) {
			p, err := netip.ParsePrefix(args[0].AsString())
			more, _ := args[1].AsBigFloat().Int64()
			n, _ := args[2].AsBigFloat().Int64()
			bits := p.Bits() + int(more)
			return netip.PrefixFrom(add(p.Addr(), uint32(n)<<(32-bits)), bits).String(), err //nolint:gosec // small
		}),
	}
}

// add is the n-th IPv4 address after a.
func add(a netip.Addr, n uint32) netip.Addr {
	if !a.Is4() {
		return netip.Addr{}
	}
	b := a.As4()
	n += uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}
