package controller

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/record"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// nodePorts tells Services, whoever gives them addresses, what nodes could not
// do for their node ports. The condition is the memory, so that no Event
// repeats when another replica leads.
func (c *Controller) nodePorts(ctx context.Context, s *snapshot.Snapshot) (errs []error) {
	problems := record.Problems(s)
	for _, svc := range s.Services {
		problem, has := problems[svc.Ref]
		_, told := svc.Conditions[v1alpha1.ConditionNodePorts]
		if !has && !told {
			continue
		}
		if err := c.tellProblem(ctx, svc.Ref, problem, has); err != nil {
			errs = append(errs, fmt.Errorf("service %s: %w", svc.Ref, err))
		}
	}
	return errs
}

func (c *Controller) tellProblem(ctx context.Context, ref snapshot.Ref, problem snapshot.Condition, has bool) error {
	obj := c.Store.Service(ref)
	if obj == nil {
		return nil
	}
	want := obj.DeepCopy()
	if !record.SetProblem(want, problem, has) {
		return nil
	}
	got, err := c.Clients.Kube.CoreV1().Services(want.Namespace).UpdateStatus(ctx, want, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("condition %s: %w", v1alpha1.ConditionNodePorts, err)
	}
	c.Store.Written(got)
	if has {
		c.Recorder.Event(got, corev1.EventTypeWarning, problem.Reason, problem.Message)
	}
	return nil
}
