package importer

import (
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// anyOf makes as few selectors as possible that together select what any of all
// does; none for none. Several become one if each asks for one value of the same
// label.
func anyOf(all []metav1.LabelSelector) []*metav1.LabelSelector {
	if len(all) == 0 {
		return nil
	}
	if one := merged(all); one != nil {
		return []*metav1.LabelSelector{one}
	}
	out := make([]*metav1.LabelSelector, len(all))
	for i := range all {
		out[i] = &all[i]
	}
	return out
}

func merged(all []metav1.LabelSelector) *metav1.LabelSelector {
	if len(all) == 1 {
		return &all[0]
	}
	var label string
	var values []string
	for _, s := range all {
		keys := slices.Collect(maps.Keys(s.MatchLabels))
		if len(keys) != 1 || len(s.MatchExpressions) > 0 || label != "" && keys[0] != label {
			return nil
		}
		label = keys[0]
		values = append(values, s.MatchLabels[label])
	}
	slices.Sort(values)
	return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
		{Key: label, Operator: metav1.LabelSelectorOpIn, Values: slices.Compact(values)},
	}}
}

// orNone is all, or nil alone: for a loop that has to run once at least.
func orNone(all []*metav1.LabelSelector) []*metav1.LabelSelector {
	if len(all) == 0 {
		return []*metav1.LabelSelector{nil}
	}
	return all
}
