package keyring

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/fairlead/fairlead/internal/snapshot"
)

const (
	// Secret is the name of the Secret, in the release's namespace.
	Secret = "fairlead-members"
	// Data is the key in the Secret's data that holds the keys, as Parse reads them.
	Data = "keys"
	// AnnotationRotate asks for a new key, whatever its value.
	AnnotationRotate = "fairlead.io/rotate"
	// AnnotationRotation tells the Step of the rotation that is under way, and
	// since when.
	AnnotationRotation = "fairlead.io/rotation"
)

// KeepEvery is how often Keep is to be called.
const KeepEvery = 30 * time.Second

// Keeper keeps the Secret.
type Keeper struct {
	Client    kubernetes.Interface
	Namespace string
	Log       *slog.Logger
	// Snapshot returns the cluster, or nil while it is not known. If it is nil itself the
	// Signers stay as they are.
	Snapshot func() *snapshot.Snapshot
}

// Keep makes sure that the Secret is there, and takes the next step of a rotation
// when it is due. A Secret that cannot be read is left as it is.
func (k Keeper) Keep(ctx context.Context) error {
	secrets := k.Client.CoreV1().Secrets(k.Namespace)
	have, err := secrets.Get(ctx, Secret, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = secrets.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: Secret, Labels: map[string]string{"app.kubernetes.io/managed-by": "fairlead"}},
			Data:       map[string][]byte{Data: Keys{generate()}.Format()},
		}, metav1.CreateOptions{})
		if err == nil {
			k.Log.Info("made a key for the agents", "secret", Secret)
		}
		if apierrors.IsAlreadyExists(err) {
			err = nil // another replica was faster
		}
	}
	if err == nil && have.Name != "" {
		err = k.update(ctx, have)
	}
	if err != nil {
		return fmt.Errorf("secret %s: %w", Secret, err)
	}
	return nil
}

// update takes the next step of a rotation if it is due, and has the Secret name the
// keys of the nodes.
func (k Keeper) update(ctx context.Context, have *corev1.Secret) error {
	want := have.DeepCopy()
	step, err := rotate(want, time.Now())
	if err != nil {
		return err
	}
	if k.Snapshot != nil {
		if s := k.Snapshot(); s != nil {
			want.Data[DataSigners] = SignersOf(s).Format()
		}
	}
	if equality.Semantic.DeepEqual(have, want) {
		return nil
	}
	if _, err := k.Client.CoreV1().Secrets(k.Namespace).Update(ctx, want, metav1.UpdateOptions{}); err != nil {
		return err
	}
	k.Log.Info("the agents' keys change", "secret", Secret, "rotation", step, "signers", bytes.Count(want.Data[DataSigners], []byte("\n")))
	return nil
}

// rotate takes the next step of a rotation in s, if it is due, and returns it.
func rotate(s *corev1.Secret, now time.Time) (Step, error) {
	keys, err := Parse(s.Data[Data])
	if err != nil {
		return Resting, err
	}
	request, asked := s.Annotations[AnnotationRotate]
	at, since := readStep(s.Annotations[AnnotationRotation])
	next, step, due := Next(keys, at, since, now, asked, generate)
	if !due {
		return at, nil
	}
	s.Data[Data] = next.Format()
	if s.Annotations == nil {
		s.Annotations = map[string]string{}
	}
	delete(s.Annotations, AnnotationRotate) // a new one asks for another turn
	delete(s.Annotations, AnnotationRotation)
	if step != Resting {
		s.Annotations[AnnotationRotation] = fmt.Sprintf("%s %s", step, now.UTC().Format(time.RFC3339))
		if at != Resting && asked {
			s.Annotations[AnnotationRotate] = request // after this one
		}
	}
	return step, nil
}

// readStep reads AnnotationRotation; what makes no sense is not a rotation.
func readStep(text string) (Step, time.Time) {
	step, at, _ := strings.Cut(text, " ")
	since, err := time.Parse(time.RFC3339, at)
	if s := Step(step); err == nil && (s == Added || s == Switched) {
		return s, since
	}
	return Resting, time.Time{}
}

func generate() []byte {
	key := make([]byte, Size)
	_, _ = rand.Read(key) // never fails
	return key
}
