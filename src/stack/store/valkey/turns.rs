//! Operations on the turns of an instance. The scripts say what they do, and in which order their arguments
//! come.

use std::time::Duration;

use super::{
    super::engine::{Failed, TurnMode, TurnReply, TurnRequest},
    Repeat, StoreTime, Valkey, form,
    scripts::{Call, GIVE_BACK, PUSH_BACK, Script, TURN},
};

impl Valkey {
    /// Takes a turn of the instance with this tag, or looks at its turns.
    ///
    /// # Errors
    ///
    /// [`Failed`]. The turn may have been taken all the same, so the request is never repeated.
    pub async fn turn(&self, instance: &str, request: TurnRequest) -> Result<TurnReply, Failed> {
        let mode = match request.mode {
            TurnMode::Book => "book",
            TurnMode::Spare => "spare",
            TurnMode::Look => "look",
        };
        let call = known(instance, &request).with(mode).with(micros(request.patience));
        let repeat = match request.mode {
            TurnMode::Book | TurnMode::Spare => Repeat::Never,
            TurnMode::Look => Repeat::Harmless,
        };
        self.turns(&TURN, &call, repeat).await
    }

    /// Gives back a turn that was booked and comes in `turn_in`.
    ///
    /// # Errors
    ///
    /// [`Failed`].
    pub async fn give_back(
        &self,
        instance: &str,
        turn_in: Duration,
        interval: Duration,
        slack: Duration,
    ) -> Result<(), Failed> {
        let call = turns_of(instance).with(micros(interval)).with(micros(slack)).with(&[0, 0, 0]);
        self.turns(&GIVE_BACK, &call.with(micros(turn_in)), Repeat::Never).await?;
        Ok(())
    }

    /// Begins or lengthens the pause of an instance after a 429. Without a hint the pauses grow, from the
    /// shortest again if Hypersender has `answered` since the last one. The time of the turn in the reply is
    /// the rest of the pause.
    ///
    /// # Errors
    ///
    /// [`Failed`].
    pub async fn push_back(
        &self,
        instance: &str,
        asked: Option<Duration>,
        answered: bool,
        request: TurnRequest,
    ) -> Result<TurnReply, Failed> {
        let asked = asked.map_or(-1, |asked| i64::try_from(micros(asked)).unwrap_or(i64::MAX));
        let call = known(instance, &request).with(asked).with(u8::from(answered));
        self.turns(&PUSH_BACK, &call, Repeat::Never).await
    }

    async fn turns(&self, script: &Script, call: &Call, repeat: Repeat) -> Result<TurnReply, Failed> {
        let reply = script.run(&self.link, call, repeat).await?;
        let (now, is_taken, wait, free_in, spare_in, pause, changes): (u64, bool, u64, u64, u64, u64, u64) =
            form(reply)?;
        let wait = Duration::from_micros(wait);
        Ok(TurnReply {
            now: StoreTime::from_micros(now),
            turn: if is_taken { Ok(wait) } else { Err(wait) },
            free_in: Duration::from_micros(free_in),
            spare_in: Duration::from_micros(spare_in),
            pause: Duration::from_micros(pause),
            changes,
        })
    }
}

fn turns_of(instance: &str) -> Call {
    Call::on([format!("{instance}:turn").as_str(), format!("{instance}:back").as_str()])
}

/// The arguments that all three scripts have.
fn known(instance: &str, request: &TurnRequest) -> Call {
    turns_of(instance)
        .with(micros(request.interval))
        .with(micros(request.slack))
        .with(micros(request.known_free_in))
        .with(micros(request.known_pause))
        .with(request.known_changes)
}

/// Microseconds, in a number that the scripts represent exactly.
fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX).min(1 << 52)
}
