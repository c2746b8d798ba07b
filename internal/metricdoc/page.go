package main

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"text/template"
)

//go:embed metrics.md.tmpl
var text string

// Page is docs/metrics.md.
func Page() (string, error) {
	all, err := All()
	if err != nil {
		return "", err
	}
	known := map[string]bool{}
	for _, m := range slices.Concat(all.Agent, all.Controller, all.Both, all.ControlPlane) {
		known[m.Name] = true
	}
	page, err := template.New("metrics.md").Funcs(template.FuncMap{
		"table": table,
		"names": names,
		"metric": func(name string) (string, error) {
			if !known[name] {
				return "", fmt.Errorf("there is no metric %s", name)
			}
			return "`" + name + "`", nil
		},
	}).Parse(text)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	if err := page.Execute(&b, all); err != nil {
		return "", err
	}
	return b.String(), nil
}

func table(metrics []Metric) string {
	rows := []string{"| metric | type | labels | meaning |", "|---|---|---|---|"}
	for _, m := range metrics {
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s | %s |", m.Name, m.Type, strings.Join(m.Labels, ", "), strings.ReplaceAll(m.Help, "|", `\|`)))
	}
	return strings.Join(rows, "\n")
}

// names lists metrics in a sentence.
func names(metrics []Metric) string {
	var all []string
	for _, m := range metrics {
		all = append(all, "`"+m.Name+"`")
	}
	return strings.Join(all, ",\n")
}
