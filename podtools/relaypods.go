package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// One answer of the API server, and then the pod's: the gateway waits for ten seconds.
	apiLimit = 3 * time.Second
	podLimit = 5 * time.Second
	// No pod is larger; etcd takes no object above 1.5 MiB.
	apiAnswer = 2 << 20
	// At once, so that large answers stay a bounded part of the memory; more wait.
	apiCalls = 16

	managedBy     = "app.kubernetes.io/managed-by"
	instanceLabel = "gpuyard.io/instance"
)

// podFinder asks the cluster's own API server where a pod is and whether the gateway may reach it.
// What the gateway says names a pod and a port and nothing else, so nothing but rentals of this
// platform can be reached through it, whatever becomes of the gateway.
type podFinder struct {
	base    string
	account string
	prefix  string
	calls   chan struct{}

	lock      sync.Mutex
	authority []byte // for which the client was made
	client    *http.Client
}

// foundPod is what of a pod matters here.
type foundPod struct {
	Metadata struct {
		Name              string            `json:"name"`
		Namespace         string            `json:"namespace"`
		Labels            map[string]string `json:"labels"`
		DeletionTimestamp string            `json:"deletionTimestamp"`
	} `json:"metadata"`
	Spec struct {
		HostNetwork bool `json:"hostNetwork"`
	} `json:"spec"`
	Status struct {
		Phase  string `json:"phase"`
		PodIP  string `json:"podIP"`
		HostIP string `json:"hostIP"`
	} `json:"status"`
}

func apiOfCluster() string {
	host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return ""
	}
	return "https://" + net.JoinHostPort(host, port)
}

func newPodFinder(api, account, prefix string) (*podFinder, error) {
	at, err := url.Parse(api)
	if err != nil || at.Scheme != "https" || at.Host == "" {
		return nil, fmt.Errorf("not the https address of an API server: %q", api)
	}
	return &podFinder{
		base:    strings.TrimSuffix(api, "/"),
		account: account,
		prefix:  prefix,
		calls:   make(chan struct{}, apiCalls),
	}, nil
}

// reach connects to a port of a pod, named POD.NAMESPACE; also the instance that it belongs to. The
// error is a sentence for the gateway.
func (f *podFinder) reach(ctx context.Context, target string, port uint32) (string, *net.TCPConn, error) {
	namespace, name, err := f.named(target)
	if err != nil {
		return "", nil, err
	}
	if port == 0 || port > 65535 {
		return "", nil, errors.New("there is no such port")
	}
	pod, err := f.get(ctx, namespace, name)
	if err != nil {
		return "", nil, err
	}
	if err := f.judge(pod, namespace, name); err != nil {
		return "", nil, err
	}
	dialer := net.Dialer{Timeout: podLimit}
	address := net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(int(port)))
	made, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return "", nil, fmt.Errorf("the pod does not answer at port %d: %v", port, errors.Unwrap(err))
	}
	return pod.Metadata.Labels[instanceLabel], made.(*net.TCPConn), nil
}

var (
	aLabel = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	aName  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
)

// named takes a name apart. Nothing else than names comes into the API server's path.
func (f *podFinder) named(target string) (namespace, name string, err error) {
	dot := strings.LastIndexByte(target, '.')
	if dot < 0 || dot > 253 || !aName.MatchString(target[:dot]) || !aLabel.MatchString(target[dot+1:]) {
		return "", "", errors.New("this is no name of the form POD.NAMESPACE")
	}
	name, namespace = target[:dot], target[dot+1:]
	if !strings.HasPrefix(namespace, f.prefix) {
		return "", "", errors.New("this namespace is not one of rentals")
	}
	return namespace, name, nil
}

// judge says why a pod may not be reached.
func (f *podFinder) judge(pod *foundPod, namespace, name string) error {
	at := net.ParseIP(pod.Status.PodIP)
	switch {
	case pod.Metadata.Name != name || pod.Metadata.Namespace != namespace:
		return errors.New("the API server answered with something else than this pod")
	case pod.Metadata.Labels[managedBy] != "gpuyard" || pod.Metadata.Labels[instanceLabel] == "":
		return errors.New("this pod is not one of a rental")
	case pod.Spec.HostNetwork:
		return errors.New("this pod is on its node's network")
	case pod.Metadata.DeletionTimestamp != "":
		return errors.New("this pod is being ended")
	case at == nil && pod.Status.PodIP != "":
		return errors.New("this pod has an address that is none")
	case at == nil:
		return errors.New("this pod has no address yet")
	case at.Equal(net.ParseIP(pod.Status.HostIP)):
		return errors.New("this pod is at its node's address")
	// One that is pending and has an address is coming up: its containers may answer before a kubelet
	// has said so. The address of one that has ended may be another's by now.
	case pod.Status.Phase != "Running" && pod.Status.Phase != "Pending":
		return errors.New("this pod does not run")
	}
	return nil
}

// get asks for one pod.
func (f *podFinder) get(ctx context.Context, namespace, name string) (*foundPod, error) {
	patience, cancel := context.WithTimeout(ctx, apiLimit)
	defer cancel()
	select {
	case f.calls <- struct{}{}:
		defer func() { <-f.calls }()
	case <-patience.Done():
		return nil, errors.New("the API server of this cluster does not answer fast enough")
	}
	client, token, err := f.prepared()
	if err != nil {
		return nil, err
	}
	where := f.base + "/api/v1/namespaces/" + namespace + "/pods/" + name
	request, err := http.NewRequestWithContext(patience, http.MethodGet, where, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Accept", "application/json")
	answer, err := client.Do(request)
	if err != nil {
		say("the API server does not answer: %s", plain(err.Error()))
		return nil, errors.New("the API server of this cluster does not answer")
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, apiAnswer+1))
	switch {
	case err != nil:
		return nil, errors.New("the API server of this cluster broke off its answer")
	case answer.StatusCode == http.StatusNotFound:
		return nil, errors.New("there is no such pod")
	case answer.StatusCode == http.StatusForbidden || answer.StatusCode == http.StatusUnauthorized:
		return nil, errors.New("the API server of this cluster does not let the relay look")
	case answer.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("the API server of this cluster answered %d", answer.StatusCode)
	case len(body) > apiAnswer:
		return nil, errors.New("the API server's answer is too large")
	}
	found := new(foundPod)
	if err := json.Unmarshal(body, found); err != nil {
		return nil, errors.New("the API server's answer is not understood")
	}
	return found, nil
}

// prepared is the client that trusts the cluster's authority as it is now, and the account's token,
// which the kubelet replaces.
func (f *podFinder) prepared() (*http.Client, string, error) {
	token, err := os.ReadFile(filepath.Join(f.account, "token"))
	if err != nil {
		return nil, "", errors.New("the relay has no token for the API server of its cluster")
	}
	authority, err := os.ReadFile(filepath.Join(f.account, "ca.crt"))
	if err != nil {
		return nil, "", errors.New("the relay does not know the authority of its cluster")
	}
	f.lock.Lock()
	defer f.lock.Unlock()
	if f.client == nil || !bytes.Equal(authority, f.authority) {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(authority) {
			return nil, "", errors.New("the authority of this cluster cannot be read")
		}
		f.authority, f.client = authority, apiClient(pool)
	}
	return f.client, strings.TrimSpace(string(token)), nil
}

// apiClient follows no redirects, uses no proxy and unpacks nothing.
func apiClient(authorities *x509.CertPool) *http.Client {
	transport := &http.Transport{
		TLSClientConfig:        &tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS12},
		DialContext:            (&net.Dialer{Timeout: apiLimit}).DialContext,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConnsPerHost:    4,
		IdleConnTimeout:        30 * time.Second,
	}
	refuse := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &http.Client{Transport: transport, Timeout: apiLimit, CheckRedirect: refuse}
}
