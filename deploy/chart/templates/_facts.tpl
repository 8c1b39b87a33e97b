{{/*
What follows from the values, as YAML:
  replicas   the most pods at a time, for --replicas: the maximum, and the surge of a rollout
  grace      terminationGracePeriodSeconds, at least `drain`
  drain      seconds that the process needs after SIGTERM, with 5 s for its own end and 5 s for the kubelet
  recreate   whether the strategy is Recreate
*/}}
{{- define "hypersender-grpc.facts" -}}
{{- $values := .Values -}}
{{- $most := ternary $values.autoscaling.maxReplicas $values.replicas $values.autoscaling.enabled | int -}}
{{- $surge := 0 -}}
{{- if not $values.store.file.enabled -}}
{{- $given := $values.rollingUpdate.maxSurge | toString -}}
{{- if hasSuffix "%" $given -}}
{{- /* Kubernetes rounds the surge up. */ -}}
{{- $surge = div (add (mul $most (trimSuffix "%" $given | int)) 99) 100 -}}
{{- else -}}
{{- $surge = int $given -}}
{{- end -}}
{{- end -}}
{{- $drain := add $values.drain.waitSeconds $values.drain.timeoutSeconds 10 -}}
replicas: {{ add $most $surge }}
drain: {{ $drain }}
grace: {{ default $drain $values.terminationGracePeriodSeconds | int }}
recreate: {{ $values.store.file.enabled }}
{{- end }}

{{/* A number or text as an argument. YAML numbers may be floats, printed like 2e+06 from a million on. */}}
{{- define "hypersender-grpc.text" -}}
{{- if kindIs "float64" . -}}
{{- if eq (floor .) . }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- else -}}
{{ . }}
{{- end -}}
{{- end }}

{{/* The bytes of a size such as 96MiB, 64MB or, as Kubernetes writes it, 1Gi; empty for another form. */}}
{{- define "hypersender-grpc.bytes" -}}
{{- $text := include "hypersender-grpc.text" . -}}
{{- if regexMatch "^[0-9]+ ?([kKMGT]i?)?B?$" $text -}}
{{- $number := regexFind "^[0-9]+" $text | int64 -}}
{{- $unit := regexFind "[kKMGT]i?" $text | upper -}}
{{- $factor := ternary 1024 1000 (hasSuffix "I" $unit) -}}
{{- $power := index (dict "" 0 "K" 1 "M" 2 "G" 3 "T" 4) (trimSuffix "I" $unit) | int -}}
{{- range until $power }}{{ $number = mul $number $factor }}{{ end -}}
{{- $number -}}
{{- end -}}
{{- end }}

{{/* The port of a URL, or of the address that it lists. Takes the URL and the port of a URL without one. */}}
{{- define "hypersender-grpc.port" -}}
{{- $authority := index . 0 | regexFind "://[^/?#]*" -}}
{{- default (index . 1) ($authority | regexFind ":[0-9]+$" | trimPrefix ":") -}}
{{- end }}

{{/* The flags that other values set, each with the name of its value, as YAML. */}}
{{- define "hypersender-grpc.setByOthers" -}}
listen: listenAddress and ports.grpc
admin-listen: admin.enabled, listenAddress and ports.admin
callers-file: callers
drain-wait: drain.waitSeconds
drain-timeout: drain.timeoutSeconds
tls-cert: tls
tls-key: tls
tls-client-ca: tls.clientCa
instances-file: instances
store: store.url or store.file
store-ca: store.ca
replicas: replicas, autoscaling and rollingUpdate
avatars-listen: avatars.enabled, listenAddress and ports.avatars
avatars-url: avatars.url
{{- end }}
