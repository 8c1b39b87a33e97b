"""JSON over plain HTTP, by the transcoder of Envoy. The contract has no HTTP annotations."""

import json
import urllib.error
import urllib.request

from support import METHOD, PATIENCE, SERVICE
from support.envoy import Envoy


def post(envoy, body, method=METHOD):
    request = urllib.request.Request(
        f"http://{envoy.address}/{method}",
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_json_in_and_out(server, started, tmp_path):
    envoy = started(Envoy(tmp_path / "envoy", [server]))
    code, answer = post(envoy, {"chatId": "15551230001"})
    picture = answer["profilePicture"]
    assert (code, picture["chatId"], picture["state"]) == (200, "15551230001", "PROFILE_PICTURE_STATE_PRESENT")
    assert answer["cacheInfo"]["status"] == "CACHE_STATUS_MISS"

    for chat_id, code, reason in [("15551230006", 404, "NOT_ON_WHATSAPP"), ("abc", 400, "CHAT_ID_INVALID")]:
        got, answer = post(envoy, {"chatId": chat_id})
        assert got == code
        reasons = [detail["reason"] for detail in answer["details"] if "reason" in detail]
        assert reasons == [reason], answer


def test_a_batch_and_a_stream(server, started, tmp_path):
    envoy = started(Envoy(tmp_path / "envoy", [server]))
    asked = {"chatIds": ["15551230001", "abc", "15551230004"]}
    code, batch = post(envoy, asked, f"{SERVICE}/BatchGetProfilePictures")
    assert (code, len(batch["results"]), batch["failedCount"]) == (200, 3, 1)
    # A stream is an array of its messages.
    code, messages = post(envoy, asked, f"{SERVICE}/StreamProfilePictures")
    assert code == 200
    *results, last = messages
    assert sorted(message["result"].get("index", 0) for message in results) == [0, 1, 2]
    assert last == {"progress": {"done": 3, "failed": 1, "total": 3}}
